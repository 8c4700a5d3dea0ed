import { existsSync } from 'node:fs';
import { describe } from '@jest/globals';
import { type Browser, chromium } from 'playwright-core';

export const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';

/** A `describe` that is skipped where there is no browser; REQUIRE_CHROMIUM=1 makes that a failure. */
export const inChromium = existsSync(executablePath) || process.env.REQUIRE_CHROMIUM ? describe : describe.skip;

/** Each launch gets a user data directory of its own. */
export function launchChromium(): Promise<Browser> {
  return chromium.launch({
    executablePath,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  });
}
