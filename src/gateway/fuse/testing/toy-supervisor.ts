import { fileURLToPath } from "node:url";
import { SystemClock } from "../../../base/clock.ts";
import { SystemTimers } from "../../../base/timers.ts";
import { fuseDeviceIo } from "../device.ts";
import { Supervisor } from "../supervisor.ts";
import { consoleLog } from "./console-log.ts";

/** A supervisor of testing/toy-child.ts, with its arguments. */
const supervisor = new Supervisor({
  command: process.execPath,
  args: [fileURLToPath(new URL("./toy-child.ts", import.meta.url)), ...process.argv.slice(2)],
  io: fuseDeviceIo(),
  clock: new SystemClock(),
  timers: new SystemTimers(),
  log: consoleLog,
});
process.on("SIGTERM", () => supervisor.stop());
process.on("SIGINT", () => supervisor.stop());
process.exit(await supervisor.run());
