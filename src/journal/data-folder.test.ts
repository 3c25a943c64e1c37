import { spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { memoryLog } from "../base/log.ts";
import { ManualTimers } from "../base/timers.ts";
import { DataFolder, type DataFolderOptions } from "./data-folder.ts";
import { APP, ManualClock } from "./journal-fixture.ts";

class Fixture {
  readonly parent = fs.mkdtempSync(path.join(os.tmpdir(), "data-folder-"));
  readonly path = path.join(this.parent, "deep", "data");
  readonly clock = new ManualClock();
  readonly log = memoryLog();

  open(options: Partial<DataFolderOptions> = {}): Promise<DataFolder> {
    return DataFolder.open({ path: this.path, clock: this.clock, log: this.log, ...options });
  }

  write(name: string, text: string): void {
    fs.mkdirSync(this.path, { recursive: true });
    fs.writeFileSync(path.join(this.path, name), text);
  }

  identity(): Record<string, unknown> {
    return JSON.parse(fs.readFileSync(path.join(this.path, "tidemark.json"), "utf8"));
  }

  [Symbol.dispose](): void {
    fs.rmSync(this.parent, { recursive: true, force: true });
  }
}

test("a missing folder is set up, closed to others, and keeps its id", async () => {
  using fixture = new Fixture();
  const first = await fixture.open();
  expect(fs.statSync(fixture.path).mode & 0o777).toBe(0o700);
  expect(fixture.identity()).toMatchObject({ format: "tidemark-data", version: 1, id: first.id });
  expect(first.journalFolder(APP)).toBe(path.join(fixture.path, "apps", APP, "journal"));
  first.close();
  const second = await fixture.open();
  expect(second.id).toBe(first.id);
  expect(first.id).toMatch(/^[0-9a-f]{32}$/);
  second.close();
});

test("an empty folder that others can read is closed to them", async () => {
  using fixture = new Fixture();
  fs.mkdirSync(fixture.path, { recursive: true, mode: 0o755 });
  (await fixture.open()).close();
  expect(fs.statSync(fixture.path).mode & 0o777).toBe(0o700);
});

test("a folder in use is refused, naming the process; after it ended it is free", async () => {
  using fixture = new Fixture();
  const holder = await fixture.open();
  await expect(fixture.open()).rejects.toMatchObject({
    code: "DATA_FOLDER_LOCKED",
    message: expect.stringContaining(`process ${process.pid}`),
  });
  holder.close();
  (await fixture.open()).close();
});

test("the lock of a process that was killed is free", async () => {
  using fixture = new Fixture();
  const module = fileURLToPath(new URL("./data-folder.ts", import.meta.url));
  const clock = fileURLToPath(new URL("../base/clock.ts", import.meta.url));
  const log = fileURLToPath(new URL("../base/log.ts", import.meta.url));
  const script = `
    import { DataFolder } from ${JSON.stringify(module)};
    import { SystemClock } from ${JSON.stringify(clock)};
    import { silentLog } from ${JSON.stringify(log)};
    await DataFolder.open({ path: ${JSON.stringify(fixture.path)}, clock: new SystemClock(), log: silentLog });
    console.log("locked");
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(child.stdout, "data");
  await expect(fixture.open()).rejects.toMatchObject({
    code: "DATA_FOLDER_LOCKED",
    message: expect.stringContaining(`process ${child.pid}`),
  });
  child.kill("SIGKILL");
  await once(child, "close");
  (await fixture.open()).close();
});

test("a lock can be waited for, for a time", async () => {
  using fixture = new Fixture();
  const timers = new ManualTimers();
  const holder = await fixture.open();
  const waiting = fixture.open({ lockWaitMs: 1000, timers });
  while (timers.pendingCount === 0) await new Promise((resolve) => setImmediate(resolve));
  holder.close();
  timers.advance(50);
  const next = await waiting;
  const tooLong = fixture.open({ lockWaitMs: 1000, timers }).catch((error: unknown) => error);
  while (timers.pendingCount === 0) await new Promise((resolve) => setImmediate(resolve));
  fixture.clock.ms += 1001;
  timers.advance(50);
  expect(await tooLong).toMatchObject({ code: "DATA_FOLDER_LOCKED" });
  next.close();
});

test("what is not ours, damaged or newer is refused by name, and nothing is changed", async () => {
  const cases: [name: string, text: string, message: RegExp][] = [
    ["photo.jpg", "x", /no tidemark\.json, but it has "photo\.jpg"/],
    ["apps", "lost its identity", /no tidemark\.json/],
    ["tidemark.json", "{ not json", /damaged/],
    ["tidemark.json", "[]", /damaged/],
    ["tidemark.json", "", /damaged/],
    ["tidemark.json", '{"format":"other","version":1}', /not of a data folder/],
    [
      "tidemark.json",
      `{"format":"tidemark-data","version":2,"id":"${"a".repeat(32)}"}`,
      /newer program: format version 2/,
    ],
    ["tidemark.json", '{"format":"tidemark-data","version":1,"id":"short"}', /damaged/],
    ["tidemark.json", '{"format":"tidemark-data","version":"1"}', /damaged/],
  ];
  for (const [name, text, message] of cases) {
    using fixture = new Fixture();
    fixture.write(name, text);
    await expect(fixture.open(), text).rejects.toMatchObject({
      code: "DATA_FOLDER_FOREIGN",
      message: expect.stringMatching(message),
    });
    expect(fs.readdirSync(fixture.path)).toEqual([name]);
    expect(fs.readFileSync(path.join(fixture.path, name), "utf8")).toBe(text);
  }
});

test("an interrupted set-up is done again", async () => {
  using fixture = new Fixture();
  fixture.write("tidemark.json.new", '{"format":');
  fixture.write("lock", "");
  (await fixture.open()).close();
  expect(fixture.identity()).toMatchObject({ version: 1 });
});

test("a folder on FUSE is refused", async () => {
  using fixture = new Fixture();
  await expect(fixture.open({ fileSystemType: () => 0x65735546 })).rejects.toMatchObject({
    code: "UNSUPPORTED",
    message: expect.stringContaining("FUSE"),
  });
});

test("a path that is a file is an invalid argument", async () => {
  using fixture = new Fixture();
  fixture.write("file", "");
  await expect(fixture.open({ path: path.join(fixture.path, "file") })).rejects.toMatchObject({
    code: "INVALID_ARGUMENT",
  });
});
