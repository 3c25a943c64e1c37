import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Host, Hosts, PORT } from "./hosts.ts";
import { skipWithout } from "./requirements.ts";
import { run } from "./run.ts";

/** What a container's share usually is mounted with. */
const ALL = "list,read,create,append,write,delete,setattr,history";

describe.skipIf(skipWithout("ip", "nsenter", "flock"))("three hosts on one share", () => {
  let hosts: Hosts;
  let service: Host;
  let mounts: string[];

  beforeAll(async () => {
    hosts = await Hosts.make(3);
    service = hosts.host(0);
    await service.serve();
    await service.cli("app", "create", "shop");
    await service.cli("share", "create", "shop/files");
    mounts = [];
    for (const [index, name] of [
      [1, "one"],
      [2, "two"],
    ] as const) {
      const host = hosts.host(index);
      await host.join(service, name);
      const token = await host.token(service, "shop/files", ALL);
      mounts.push(await host.mount(service, "shop/files", token));
    }
    const local = path.join(service.folder, "mnt");
    mkdirSync(local);
    await service.cli("mount", "shop/files", local);
    mounts.push(local);
  }, 180_000);

  afterAll(async () => {
    await service?.cli("umount", mounts.at(-1) ?? "").catch(() => {});
    await hosts?.close();
  });

  const at = (host: number, name: string): string => path.join(mounts[host] ?? "", name);

  test("what one writes the others read as soon as the call has returned", () => {
    for (let round = 0; round < 30; round++) {
      const writer = round % 3;
      const text = `round ${round} by ${writer}\n`;
      writeFileSync(at(writer, "said"), text);
      for (const reader of [0, 1, 2])
        expect([writer, reader, readFileSync(at(reader, "said"), "utf8")]).toEqual([writer, reader, text]);
    }
  });

  test("names come, move and go for all at once, also those that others had looked for in vain", () => {
    for (let round = 0; round < 10; round++) {
      const [maker, mover, looker] = [round % 3, (round + 1) % 3, (round + 2) % 3];
      expect(existsSync(at(looker, "later"))).toBe(false);
      mkdirSync(at(maker, "later"));
      expect(existsSync(at(looker, "later"))).toBe(true);
      expect(readdirSync(at(mover, "")).includes("later")).toBe(true);
      writeFileSync(at(mover, "later/inside"), "x");
      expect(statSync(at(looker, "later/inside")).size).toBe(1);
      for (const name of ["later/inside", "later"]) expect(existsSync(at(looker, name))).toBe(true);
      rmSync(at(mover, "later"), { recursive: true });
      expect(existsSync(at(maker, "later"))).toBe(false);
    }
  });

  test("appends of all hosts to one file are all there, whole", async () => {
    const LINES = 100;
    await Promise.all(
      mounts.map((mount, host) =>
        run("bash", [
          "-c",
          `for i in $(seq ${LINES}); do printf "%-31s\\n" "host ${host} line $i" >> "$0"; done`,
          path.join(mount, "log"),
        ]),
      ),
    );
    const lines = readFileSync(at(0, "log"), "utf8").trimEnd().split("\n");
    expect(new Set(lines).size).toBe(3 * LINES);
    expect(lines.every((line) => /^host [012] line \d+ *$/.test(line))).toBe(true);
  }, 120_000);

  test("a partition stops one host and no other, and nobody reads what is no longer true for longer than a lease", async () => {
    const two = hosts.host(2);
    writeFileSync(at(0, "state"), "before");
    expect(readFileSync(at(1, "state"), "utf8")).toBe("before");
    await two.cut();
    // Returns when the other host's lease has run out, at the latest.
    writeFileSync(at(0, "state"), "after");
    expect(readFileSync(at(0, "state"), "utf8")).toBe("after");
    const reading = run("cat", [at(1, "state")]);
    await two.mend();
    expect((await reading).stdout).toBe("after");
    appendFileSync(at(1, "state"), "!");
    expect(readFileSync(at(0, "state"), "utf8")).toBe("after!");
  }, 120_000);

  test("the service is killed under load: every host goes on, and nothing that was acknowledged is lost", async () => {
    const loads = mounts.map((mount, host) => run("python3", ["-c", LOAD, path.join(mount, `load${host}`), "60"]));
    for (let kill = 0; kill < 3; kill++) {
      await new Promise((resolve) => setTimeout(resolve, 3000));
      await service.killService();
    }
    const results = await Promise.all(loads);
    for (const [host, { stdout }] of results.entries()) {
      const acknowledged = stdout.trim().split("\n");
      expect(acknowledged.length).toBe(60);
      for (const line of acknowledged) {
        const [name = "", text] = line.split(" ");
        for (const reader of [0, 1, 2]) expect(readFileSync(at(reader, `load${host}/${name}`), "utf8")).toBe(text);
      }
      expect(readdirSync(at(0, `load${host}`)).length).toBe(60);
    }
  }, 240_000);

  test("after all that the three trees are the same", async () => {
    for (const other of [1, 2]) {
      const { stdout } = await run("rsync", ["-aHAXnci", "--delete", `${mounts[0]}/`, `${mounts[other]}/`]);
      expect(stdout).toBe("");
    }
  }, 120_000);

  test("a node that is removed is out at once, for good", async () => {
    await service.cli("node", "remove", "two", "--yes");
    const result = await run("cat", [at(1, "said")], { anyStatus: true });
    expect(result.status).not.toBe(0);
    const again = await hosts
      .host(2)
      .cliFailure(
        ...["mount", "--service", `${service.address}:${PORT}`, "--token-file", "/nonexistent"],
        ...["shop/files", mounts[1] ?? ""],
      );
    expect(again.status).not.toBe(0);
    expect(readFileSync(at(0, "said"), "utf8")).not.toBe("");
  }, 60_000);

  test("an administrator of the service ends a mount of a node", async () => {
    const name = `one:${mounts[0]}`;
    expect((await service.cli("mount")).stdout).toContain(name);
    await service.cli("umount", name);
    expect((await service.cli("mount")).stdout).not.toContain(name);
    expect((await run("cat", [at(0, "said")], { anyStatus: true })).status).not.toBe(0);
  }, 60_000);
});

/** Makes, writes, syncs, renames; prints what the file system has acknowledged: name and content. */
const LOAD = `
import os, sys
folder, count = sys.argv[1], int(sys.argv[2])
os.mkdir(folder)
for number in range(count):
    name, text = f"{folder}/n{number}", f"content-{number}" * 50
    fd = os.open(name + ".tmp", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    os.write(fd, text[:100].encode()); os.write(fd, text[100:].encode()); os.fsync(fd); os.close(fd)
    os.rename(name + ".tmp", name)
    print(f"n{number} {text}", flush=True)
    import time; time.sleep(0.1)
`;
