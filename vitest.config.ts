import { defineConfig } from "vitest/config";

/** Folders whose tests run whole services, mounts and workloads: each of them keeps two cores busy by itself. */
const HEAVY = "test/{e2e,crash,space,bench}/**/*.test.ts";

/** Generous, as the machine may be busy with other things; a test that takes longer says so itself. */
const limits = { testTimeout: 30_000, hookTimeout: 60_000 };

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "quick",
          // Named, so that a share mounted inside of the repository is never searched.
          include: ["src/**/*.test.ts", "test/**/*.test.ts"],
          exclude: [HEAVY],
          // Vitest would leave one core free, and so use one of two.
          maxWorkers: "100%",
          sequence: { groupOrder: 0 },
          ...limits,
        },
      },
      {
        // After the others, one file at a time: they mount, kill and fill disks, and time-outs in them should mean something.
        test: { name: "heavy", include: [HEAVY], maxWorkers: 1, sequence: { groupOrder: 1 }, ...limits },
      },
    ],
  },
});
