import { SystemClock } from "../../../base/clock.ts";
import type { InitFlagName } from "../init.ts";
import type { Mounted } from "../mount.ts";
import type { LookupRequest, MkdirRequest } from "../namespace-codec.ts";
import { Notifier } from "../notify.ts";
import { FuseLoop } from "../poll-loop.ts";
import type { Reply } from "../reply.ts";
import { SupervisorClient } from "../supervisor-client.ts";
import { consoleLog } from "./console-log.ts";
import { ToyOperations } from "./toy-operations.ts";

/**
 * A supervised toy server: serves its log file (second argument) on a directory (first argument). "--without=FLAG" leaves out an INIT flag;
 * "--fail" ends at once, "--deaf" does not stop when asked. Looking up "deadly" kills it. The first process never answers a mkdir of "stuck",
 * and tells the kernel to forget an entry of that directory: the thread that does so waits in the kernel until the mkdir is answered.
 */
const [target = "", logPath, ...options] = process.argv.slice(2);
if (options.includes("--fail")) process.exit(3);

class DeadlyOperations extends ToyOperations {
  override lookup(request: LookupRequest, reply: Reply): void {
    if (request.name.toString() === "deadly") process.kill(process.pid, "SIGKILL");
    super.lookup(request, reply);
  }

  override mkdir(request: MkdirRequest, reply: Reply): void | Promise<void> {
    if (request.name.toString() !== "stuck" || request.header.resent) return super.mkdir(request, reply);
    const fd = mounts.get("toy")?.fd ?? -1;
    const name = Buffer.from("entry");
    void notifier.notify({ kind: "entry", fd, slot: 0, parentIno: request.header.ino, name, expireOnly: false });
    consoleLog.info("stuck");
    return new Promise(() => {});
  }
}

const client = await SupervisorClient.connect({ log: consoleLog });
/** "--own-thread": as without a supervisor. */
const notifier = options.includes("--own-thread") ? new Notifier() : new Notifier(client.notificationWriter());
const clock = new SystemClock();
const loop = new FuseLoop({ clock });
const without = options.filter((text) => text.startsWith("--without=")).map((text) => text.slice(10) as InitFlagName);
const mounts = new Map<string, Mounted>(client.resumed());

async function mount(key: string, where: string): Promise<void> {
  const found = mounts.get(key);
  const wanted = {
    target: where,
    source: "toy",
    readOnly: false,
    suid: false,
    dev: true,
    locks: "kernel",
    without,
  } as const;
  const mounted = found ?? (await client.mount(key, wanted));
  mounts.set(key, mounted);
  const { fd, negotiated, marks, resume } = mounted;
  const operations = new DeadlyOperations({ clock, validSec: 1, logPath });
  const onEnd = (): void => {
    mounts.delete(key);
    void client.release(key, mounted);
  };
  loop.add({
    fd,
    negotiated,
    operations,
    marks,
    resume,
    onEnd,
    onProblem: (problem) => consoleLog.error("problem", problem),
  });
}

async function stop(): Promise<void> {
  if (options.includes("--deaf")) {
    consoleLog.info("deaf");
    return;
  }
  client.stopping();
  for (const { target: where } of [...mounts.values()]) await client.umount(where, { lazy: true });
  consoleLog.info("stopped");
  process.exit(0);
}
process.once("SIGTERM", () => void stop());
void client.stopRequested.then(stop);

await mount("toy", target);
client.serving();
consoleLog.info("serving", { pid: process.pid, resumed: client.resumed().size });
