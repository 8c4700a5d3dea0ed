const shared = {
  testMatch: ['<rootDir>/test/**/*.spec.ts', '<rootDir>/lib/**/*.spec.ts'],
  testPathIgnorePatterns: ['/node_modules/'],
  extensionsToTreatAsEsm: ['.ts'],
  transform: { '\\.ts$': '@swc/jest' },
};

const sources = {
  '^nestjs-background-tasks$': '<rootDir>/lib/index.ts',
  '^(\\.{1,2}/.*)\\.js$': '$1',
  // Mercurius requires one that is an ES module, which jest cannot do on Node 20.
  '^content-disposition$': '<rootDir>/node_modules/content-disposition',
};

export default {
  projects: [
    { ...shared, displayName: 'nest 12', moduleNameMapper: sources },
    {
      ...shared,
      displayName: 'nest 11',
      moduleNameMapper: {
        '^(@nestjs/.*|rxjs|rxjs/.*|reflect-metadata)$': '<rootDir>/test/nest-11/node_modules/$1',
        ...sources,
      },
    },
  ],
};
