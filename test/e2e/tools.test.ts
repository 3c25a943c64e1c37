import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TestService } from "./fixture.ts";
import { skipWithout } from "./requirements.ts";
import { shell } from "./run.ts";

const skipped = skipWithout("npm", "make", "gcc");

/** Package managers and compilers make thousands of files, on a loaded machine. */
const SLOW_TEST_MS = 240_000;

describe.skipIf(skipped)("tools on a share", { timeout: SLOW_TEST_MS }, () => {
  let service: TestService;
  let mount: string;

  beforeAll(async () => {
    ({ service, mount } = await TestService.withShare());
  });
  afterAll(async () => service.dispose());

  test("npm install makes a tree that works and that a second install finds complete", async () => {
    // Packages the project itself depends on: the package manager's cache has them.
    await shell(`
      mkdir ${mount}/npm && cd ${mount}/npm && echo '{"name":"x","version":"1.0.0","private":true}' > package.json
      npm install --prefer-offline --no-audit --no-fund --ignore-scripts pino@10.4.0 commander@15.1.0 @grpc/grpc-js@1.14.7
      npm ci --prefer-offline --no-audit --no-fund --ignore-scripts && npm ls`);
    const { stdout } = await shell(
      `cd ${mount}/npm && node -e 'console.log(typeof require("pino"), typeof require("@grpc/grpc-js").Server)'`,
    );
    expect(stdout.trim()).toBe("function function");
  });

  test("make -j4 builds, and builds nothing the second time", async () => {
    await shell(`
      mkdir ${mount}/make && cd ${mount}/make
      for i in $(seq 40); do echo "int f$i(int x) { return x + $i; }" > f$i.c; done
      { for i in $(seq 40); do echo "int f$i(int);"; done; echo 'int main(void) { int x = 0;'; for i in $(seq 40); do echo "x = f$i(x);"; done; echo 'return x != 820; }'; } > main.c
      printf 'OBJECTS = $(patsubst %%.c,%%.o,$(wildcard *.c))\\nprogram: $(OBJECTS)\\n\\t$(CC) -o $@ $^\\n' > Makefile
      make -j4 && ./program`);
    expect((await shell(`cd ${mount}/make && make -j4`)).stdout).toContain("up to date");
  });
});
