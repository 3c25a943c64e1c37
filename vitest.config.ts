import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    // Named, so that a share mounted inside of the repository is never searched.
    include: ["src/**/*.test.ts", "test/**/*.test.ts"],
    // Many tests start processes and mount; the two cores of a usual machine are shared by all of them.
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
});
