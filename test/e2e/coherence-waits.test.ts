import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LineChild } from "./child.ts";
import { TestService } from "./fixture.ts";
import { skipWithout } from "./requirements.ts";
import { run, shell } from "./run.ts";

const skipped = skipWithout("python3");
const COHERENT = fileURLToPath(new URL("./posix/coherent.py", import.meta.url));

/** A deadlock would be ended by this: what is done here takes a few seconds. */
const ENDS = { timeoutMs: 90_000 };

describe.skipIf(skipped)("calls on two mounts that wait for each other's kernels", { timeout: 120_000 }, () => {
  let service: TestService;
  let first: string;
  let second: string;

  beforeAll(async () => {
    ({ service, mount: first } = await TestService.withShare());
    second = await service.mount("shop/files", "second");
  });
  afterAll(async () => service.dispose());

  const both = (name: string): readonly [string, string] => [path.join(first, name), path.join(second, name)];

  test("while many change names and files of one directory through both, each sees what his own calls did through the other as soon as they returned", async () => {
    const [a, b] = both("directory");
    mkdirSync(a);
    const seed = Number(process.env["SEED"] ?? Math.floor(Math.random() * 1e9));
    console.log(`SEED=${seed}`);
    const writers = ["w0", "w1", "w2", "w3"].map((writer, index) =>
      run("python3", [COHERENT, a, b, String(seed + index), "250", writer], ENDS),
    );
    for (const { stdout } of await Promise.all(writers)) expect(JSON.parse(stdout)).toEqual({});
    expect(service.log).not.toContain("by a defect");
  });

  test("writers of the same pages of one file through both mounts come to an end, and nothing that they wrote is lost", async () => {
    const [a, b] = both("pages");
    writeFileSync(a, Buffer.alloc(8192, "."));
    const script = `import os, sys
file, at = os.open(sys.argv[1], os.O_RDWR), int(sys.argv[2])
for number in range(300):
  os.pwrite(file, b"%06d" % number, at)
  if os.pread(file, 6, at) != b"%06d" % number: sys.exit("what was written on the same mount is not there")
  if number % 50 == 0: os.fsync(file)`;
    const writers = [a, b, a, b].map((file, index) =>
      run("python3", ["-c", script, file, String(4090 + 10 * index)], ENDS),
    );
    await Promise.all(writers);
    for (const file of [a, b])
      expect(readFileSync(file, "latin1").slice(4090, 4126)).toBe("000299....".repeat(4).slice(0, 36));
  });

  test("renames of the same names back and forth through both mounts come to an end", async () => {
    const [a, b] = both("names");
    mkdirSync(`${a}/one`, { recursive: true });
    mkdirSync(`${a}/two`);
    for (let index = 0; index < 4; index++) writeFileSync(`${a}/one/${index}`, String(index));
    const script = `import os, random, sys
os.chdir(sys.argv[1])
chance = random.Random(sys.argv[2])
for _ in range(400):
  name, other = str(chance.randrange(4)), str(chance.randrange(4))
  source, target = chance.sample(["one", "two"], 2) if chance.random() < 0.7 else ["one", "one"]
  try:
    os.link(f"{source}/{name}", f"{target}/{other}") if chance.random() < 0.2 else os.rename(f"{source}/{name}", f"{target}/{other}")
  except (FileNotFoundError, FileExistsError): pass
  os.listdir(target)`;
    await Promise.all(
      [a, b, a, b].map((directory, index) => run("python3", ["-c", script, directory, `s${index}`], ENDS)),
    );
    const tree = async (directory: string) =>
      (await shell(`cd ${directory} && find . -type f -printf '%p %i %n %s\\n' | sort`)).stdout;
    expect(await tree(b)).toBe(await tree(a));
  });

  test("a directory that is worked in, or mounted over, stays so while both mounts change its parent", async () => {
    const [a, b] = both("parent");
    mkdirSync(`${a}/work`, { recursive: true });
    mkdirSync(`${a}/over`);
    await shell(`mount -t tmpfs tmpfs ${b}/over && touch ${b}/over/inside`);
    const worker = new LineChild("python3", [
      "-c",
      `import os, sys\nos.chdir("${b}/work")\nfor line in sys.stdin: print(os.getcwd(), flush=True)`,
    ]);
    try {
      const names = Array.from({ length: 50 }, (_, index) => `${index}`);
      const storm = [a, b].map((mount, side) =>
        shell(
          `cd ${mount} && for n in ${names.join(" ")}; do touch x${side}; mv x${side} y; ls > /dev/null; rm -f y; done`,
        ),
      );
      for (let index = 0; index < 50; index++) expect(await worker.ask("where")).toBe(`${b}/work`);
      await Promise.all(storm);
      expect(readdirSync(`${b}/over`)).toEqual(["inside"]);
    } finally {
      await worker.end();
      await shell(`umount ${b}/over`);
    }
  });
});
