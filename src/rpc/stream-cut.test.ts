import { connect } from "node:http2";
import { expect, test } from "vitest";
import { SystemClock } from "../base/clock.ts";
import { silentLog } from "../base/log.ts";
import { SystemTimers } from "../base/timers.ts";
import { TidemarkError } from "../domain/errors.ts";
import { ReadingService } from "./gen/tidemark/v1/reading_pb.ts";
import { encoder, grpcDefinition, grpcImplementation, methodPath, type ServiceHandlers } from "./grpc-service.ts";
import { NetworkServer } from "./network-server.ts";

test("a stream whose client takes nothing ends when it is cut", { timeout: 30_000 }, async () => {
  const server = new NetworkServer({
    gate: { admission: () => ({ kind: "admitted" }) } as never,
    clock: new SystemClock(),
    timers: new SystemTimers(),
    log: silentLog,
  });
  let cut: ((error: TidemarkError) => void) | undefined;
  let sent = 0;
  let hasEnded = false;
  const read: ServiceHandlers<typeof ReadingService>["read"] = async function* (_, options) {
    ({ cut } = options);
    try {
      for (;;) {
        sent++;
        yield { content: Buffer.alloc(1024 * 1024) };
      }
    } finally {
      hasEnded = true;
    }
  };
  const all = ReadingService.methods.map(({ localName }) => [localName, read]);
  const handlers = Object.fromEntries(all) as ServiceHandlers<typeof ReadingService>;
  server.add(
    grpcDefinition(ReadingService),
    grpcImplementation(ReadingService, handlers, () => {}),
  );
  const { port } = await server.listenPlaintext({ host: "127.0.0.1", port: 0 });
  const session = connect(`http://127.0.0.1:${port}`);
  try {
    const method = ReadingService.method.read;
    const call = session.request({
      ":method": "POST",
      ":path": methodPath(method),
      "content-type": "application/grpc",
      te: "trailers",
    });
    call.on("error", () => {});
    const body = encoder(method.input)({});
    const head = Buffer.alloc(5);
    head.writeUInt32BE(body.length, 1);
    call.end(Buffer.concat([head, body]));
    // It has sent what fits, and waits.
    for (let before = -1; sent === 0 || sent !== before; ) {
      before = sent;
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
    expect(hasEnded).toBe(false);
    cut?.(new TidemarkError("PERMISSION_DENIED", "it was revoked"));
    await expect.poll(() => hasEnded).toBe(true);
  } finally {
    session.destroy();
    await server.close({ graceMs: 100 });
  }
});
