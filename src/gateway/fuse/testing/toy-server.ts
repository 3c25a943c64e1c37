import { SystemClock } from "../../../base/clock.ts";
import { fuseDeviceIo } from "../device.ts";
import { loadLibc } from "../libc.ts";
import { mountFuse, unmountFuse } from "../mount.ts";
import { FuseLoop } from "../poll-loop.ts";
import { ToyOperations } from "./toy-operations.ts";

/**
 * A process that serves the toy file system on the directory given as its argument, for tests and measurements. Says "ready" on stdout;
 * SIGTERM unmounts and ends it. Options: --valid-sec=N, --log=FILE.
 */
const [target = "", ...options] = process.argv.slice(2);
const option = (name: string): string | undefined =>
  options.find((text) => text.startsWith(`--${name}=`))?.slice(name.length + 3);

const clock = new SystemClock();
const mounted = await mountFuse(
  { target, source: "toy", readOnly: false, suid: false, dev: true, locks: "kernel" },
  { io: fuseDeviceIo(), nonBlocking: loadLibc() !== undefined },
);
const loop = new FuseLoop({ clock });
const operations = new ToyOperations({ clock, validSec: Number(option("valid-sec") ?? 60), logPath: option("log") });
const connection = loop.add({
  fd: mounted.fd,
  negotiated: mounted.negotiated,
  operations,
  onProblem: (problem) => console.error(problem),
  onEnd: () => console.log("end"),
});
process.once("SIGTERM", async () => {
  await unmountFuse(mounted.target, { lazy: true });
  console.log(`counts ${JSON.stringify(Array.from(connection.requestCounts))}`);
  process.exit(0);
});
console.log("ready");
