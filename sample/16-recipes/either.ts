/** An error as a value, as fp-ts has it. */
export type Either<E, A> = Left<E> | { readonly _tag: 'Right'; readonly right: A };

export interface Left<E> {
  readonly _tag: 'Left';
  readonly left: E;
}

export const left = <E>(error: E): Left<E> => ({ _tag: 'Left', left: error });

export function isLeft(value: unknown): value is Left<unknown> {
  return typeof value === 'object' && value !== null && '_tag' in value && value._tag === 'Left';
}
