import { writeSync } from "node:fs";
import { parentPort } from "node:worker_threads";
import { present } from "../../base/assert.ts";

/** Messages to write, each to its descriptor, in order. */
export type NotificationOrder = readonly { readonly fd: number; readonly message: Uint8Array }[];

/** What became of an order: taken by the kernel; about something it does not have cached; not understood (an older kernel). */
export type NotificationCounts = { written: number; unknown: number; refused: number };

/** The thread that writes notifications: each write may wait for locks of the kernel, for as long as it needs. */
const port = present(parentPort, "the notification worker is a worker thread");

port.on("message", (order: NotificationOrder) => {
  const counts: NotificationCounts = { written: 0, unknown: 0, refused: 0 };
  for (const { fd, message } of order) {
    try {
      writeSync(fd, message);
      counts.written++;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      // ENOENT: not cached. ENOTDIR: it changed meanwhile. ENODEV, ENOTCONN: unmounted, nothing is cached any more.
      if (code === "ENOENT" || code === "ENODEV" || code === "ENOTCONN" || code === "ENOTDIR") counts.unknown++;
      else counts.refused++;
    }
  }
  port.postMessage(counts);
});
