import type { Runner } from '../runner/runner.js';

/** Platforms that freeze a process once it has answered, by what they set in its environment. */
const PLATFORMS = {
  AWS_LAMBDA_FUNCTION_NAME: 'AWS Lambda',
  VERCEL: 'Vercel',
  FUNCTION_TARGET: 'Google Cloud Functions',
  K_SERVICE: 'Google Cloud Run, unless its CPU is always allocated',
};

/** What to say of the platform, if it freezes the process while tasks are to run, and nothing is configured against it. */
export function frozenPlatform({ options, hasEngine }: Runner, environment: NodeJS.ProcessEnv): string | undefined {
  if (options.waitUntil || hasEngine) return undefined;
  const platform = Object.entries(PLATFORMS).find(([variable]) => environment[variable])?.[1];
  return (
    platform &&
    `Background tasks may be delayed or lost here (${platform}): the process is frozen once it has answered. Configure \`waitUntil\` or an ` +
      '`engine`, or await `BackgroundTasksRunner#onIdle()` before the function returns, and say so with `waitUntil: () => undefined`. See ' +
      'https://github.com/nestjs-background-tasks/nestjs-background-tasks/blob/main/docs/serverless.md'
  );
}
