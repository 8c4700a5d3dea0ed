const shared = {
  testMatch: ['<rootDir>/test/**/*.spec.ts', '<rootDir>/lib/**/*.spec.ts'],
  testPathIgnorePatterns: ['/node_modules/'],
  extensionsToTreatAsEsm: ['.ts'],
  transform: { '\\.ts$': '@swc/jest' },
};

const sources = {
  '^nestjs-background-tasks$': '<rootDir>/lib/index.ts',
  '^nestjs-background-tasks/opentelemetry$': '<rootDir>/lib/opentelemetry/index.ts',
  '^(\\.{1,2}/.*)\\.js$': '$1',
};

export default {
  projects: [
    { ...shared, displayName: 'nest 12', moduleNameMapper: sources },
    {
      ...shared,
      displayName: 'nest 11',
      moduleNameMapper: {
        // One version of terminus is for both.
        '^(@nestjs/(?!terminus).*|rxjs|rxjs/.*|reflect-metadata)$': '<rootDir>/test/nest-11/node_modules/$1',
        ...sources,
      },
    },
  ],
};
