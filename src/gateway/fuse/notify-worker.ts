import { writeSync } from "node:fs";
import { parentPort } from "node:worker_threads";
import { present } from "../../base/assert.ts";

/** Messages to write, each to its descriptor, in order. */
export type WorkOrder = { fd: number; message: Uint8Array }[];

/** What became of an order: taken by the kernel; about something it does not have cached; not understood (an older kernel). */
export type WorkDone = { written: number; unknown: number; refused: number };

/** The thread that writes notifications: each write may wait for locks of the kernel, for as long as it needs. */
const port = present(parentPort, "the notification worker is a worker thread");

port.on("message", (order: WorkOrder) => {
  const done: WorkDone = { written: 0, unknown: 0, refused: 0 };
  for (const { fd, message } of order) {
    try {
      writeSync(fd, message);
      done.written++;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      // ENOENT: not cached. ENOTDIR, EINVAL of an entry: it changed meanwhile. ENODEV, ENOTCONN: unmounted, nothing is cached any more.
      if (code === "ENOENT" || code === "ENODEV" || code === "ENOTCONN" || code === "ENOTDIR") done.unknown++;
      else done.refused++;
    }
  }
  port.postMessage(done);
});
