/** Makes the files of a tree in a thread of its own: see tree-thread.ts, which starts it. Not imported. */
import { parentPort, workerData } from "node:worker_threads";
import { present } from "../../base/assert.ts";
import { nativeFiles } from "./native-files.ts";
import { Shortfalls } from "./shortfalls.ts";
import { unpackItems } from "./tree-items.ts";
import type { TreeReply, TreeRequest, TreeWorkerData } from "./tree-protocol.ts";
import { TreeWriter } from "./tree-writer.ts";

const port = present(parentPort, "tree-worker.ts runs in a worker thread only");
const { target, replace, user } = workerData as TreeWorkerData;
const shortfalls = new Shortfalls();
const writer = new TreeWriter({ native: nativeFiles(), shortfalls, user, target: Buffer.from(target), replace });

// What is thrown here ends the thread, and is thrown to who started it.
port.on("message", (request: TreeRequest) => {
  switch (request.kind) {
    case "items":
      for (const item of unpackItems(Buffer.from(request.memory, 0, request.used))) writer.accept(item);
      send({ kind: "written", memory: request.memory, contentBytes: writer.contentBytes });
      return;
    case "finish":
      writer.finish();
      sendEnd();
      return;
    case "abandon":
      writer.abandon();
      sendEnd();
  }
});

function sendEnd(): void {
  const { contentBytes, fileCounts } = writer;
  send({ kind: "ended", contentBytes, fileCounts, shortfallCount: shortfalls.count, shortfalls: shortfalls.listed });
}

function send(reply: TreeReply): void {
  port.postMessage(reply);
}
