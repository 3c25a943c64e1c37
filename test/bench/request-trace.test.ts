import { expect, test } from "vitest";
import { countRequests } from "./request-trace.ts";

test("requests of the mount are counted by opcode, those of other mounts and other lines are not", () => {
  const trace = [
    "# tracer: nop",
    "  workload-71  [001] .....  9.1: fuse_request_send: connection 39 req 4 opcode 1 (FUSE_LOOKUP) len 45 ",
    "  workload-71  [001] .....  9.2: fuse_request_send: connection 40 req 6 opcode 1 (FUSE_LOOKUP) len 45 ",
    "  workload-71  [000] .....  9.3: fuse_request_send: connection 39 req 8 opcode 35 (FUSE_CREATE) len 61 ",
    "  workload-71  [000] .....  9.4: fuse_request_send: connection 39 req 10 opcode 1 (FUSE_LOOKUP) len 45 ",
    "  workload-71  [000] .....  9.5: fuse_request_end: connection 39 req 10 len 16 error -2",
  ].join("\n");
  expect(countRequests(trace, 39)).toEqual({ LOOKUP: 2, CREATE: 1 });
});
