import { Metadata } from "@grpc/grpc-js";
import { expect, test } from "vitest";
import { admit, type PeerCall, peerOf } from "./peer.ts";

const gone: PeerCall = {
  getAuthContext: () => {
    throw new TypeError("Cannot read properties of null (reading 'raw')");
  },
  getPeer: () => "unknown",
};

test("a call whose connection was just destroyed has proven nothing, and breaks nothing", () => {
  expect(peerOf(gone)).toEqual({ node: "", certificateThumbprint: "", address: "unknown" });
});

test.each([
  ["10.0.0.2:40312", "10.0.0.2:40312"],
  ["::ffff:10.0.0.2:40312", "10.0.0.2:40312"],
  ["fd00::2:40312", "[fd00::2]:40312"],
  ["unknown", "unknown"],
])("an address that grpc-js has as %s is shown as %s", (peer, shown) => {
  expect(peerOf({ ...gone, getPeer: () => peer }).address).toBe(shown);
});

test("a handler is told who was admitted, also when the connection has gone away since", () => {
  const metadata = new Metadata();
  const peer = { node: "web1", certificateThumbprint: "t", address: "10.0.0.2:1", certificateExpiresSec: 7 };
  admit(metadata, peer);
  expect(peerOf({ ...gone, metadata })).toBe(peer);
  expect(peerOf({ ...gone, metadata: new Metadata() }).node).toBe("");
});
