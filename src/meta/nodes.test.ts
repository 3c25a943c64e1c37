import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { memoryLog } from "../base/log.ts";
import type { NodePeer } from "../domain/node-join.ts";
import { RECORD_OP } from "../domain/record-op.ts";
import type { EngineCore } from "./core.ts";
import { NodeGate, type NodeTrust } from "./node-gate.ts";
import { Nodes } from "./nodes.ts";
import { SERVICE_CONTEXT } from "./open-app.ts";
import { TestApps } from "./reading/test-app.ts";

let apps: TestApps;
let core: EngineCore;
let nodes: Nodes;

beforeEach(async () => {
  apps = await TestApps.open();
  core = (await apps.app("system")).app.core;
  nodes = new Nodes(core);
});

afterEach(() => apps.close());

const SEC = 1_000_000_000;
const nowSec = (): number => apps.clock.now().sec;
const certificate = (thumbprint: string, forSec = 1000) => ({
  thumbprint,
  sinceSec: nowSec(),
  expiresSec: nowSec() + forSec,
});
const invite = (name: string, thumbprint: string): unknown =>
  nodes.invite(name, { thumbprint, expiresSec: nowSec() + 100 }, SERVICE_CONTEXT);
const join = (ticket: string, usedBy: string, thumbprint: string): unknown =>
  nodes.join(ticket, { usedBy, certificate: certificate(thumbprint) }, SERVICE_CONTEXT);

function peer(node: string, thumbprint: string, forSec = 1000): NodePeer {
  return { node, certificateThumbprint: thumbprint, address: "10.0.0.2:1", certificateExpiresSec: nowSec() + forSec };
}

function gate(trust: NodeTrust): NodeGate {
  return new NodeGate(nodes, { trust, clock: apps.clock, log: memoryLog() });
}

describe("a ticket", () => {
  test("becomes a node once; with the same key again, as an answer may have been lost", () => {
    invite("web1", "t1");
    expect(nodes.get("web1")).toMatchObject({ state: "invited", certificates: [] });
    join("t1", "key-a", "c1");
    expect(nodes.get("web1")).toMatchObject({ state: "joined", certificates: [{ thumbprint: "c1" }] });
    join("t1", "key-a", "c2");
    expect(() => join("t1", "key-b", "c3")).toThrow(expect.objectContaining({ code: "PERMISSION_DENIED" }));
    expect(() => join("t1", "key-b", "c3")).toThrow("used already");
    expect(nodes.get("web1")?.certificates.map(({ thumbprint }) => thumbprint)).toEqual(["c2", "c1"]);
  });

  test("is void when another was made, when it is over, and when its node was removed", () => {
    invite("web1", "t1");
    invite("web1", "t2");
    expect(() => join("t1", "key", "c")).toThrow("it is void");
    apps.clock.step(101 * SEC);
    expect(() => join("t2", "key", "c")).toThrow("it has expired");
    invite("web2", "t3");
    nodes.remove("web2", SERVICE_CONTEXT);
    expect(() => join("t3", "key", "c")).toThrow("it is void");
    expect(() => join("unknown", "key", "c")).toThrow("it is void");
  });

  test("is not made for a node that has joined, but for one that was removed", () => {
    invite("web1", "t1");
    join("t1", "key", "c1");
    expect(() => invite("web1", "t2")).toThrow(expect.objectContaining({ code: "ALREADY_EXISTS" }));
    nodes.remove("web1", SERVICE_CONTEXT);
    invite("web1", "t2");
    join("t2", "key", "c2");
    expect(gate("listed").admission(peer("web1", "c2"))).toEqual({ kind: "admitted" });
    expect(gate("listed").admission(peer("web1", "c1"))).toMatchObject({ kind: "refused" });
  });
});

test("each change is one record, and a restart knows the same", async () => {
  const before = core.lastLsn;
  invite("web1", "t1");
  join("t1", "key", "c1");
  nodes.addCertificate("web1", certificate("c2"), SERVICE_CONTEXT);
  nodes.remove("web1", SERVICE_CONTEXT);
  invite("web2", "t2");
  expect(core.lastLsn - before).toBe(5);
  expect([RECORD_OP.NODE_SET, RECORD_OP.NODE_REMOVE]).toEqual([92, 93]);
  const again = new Nodes(core);
  expect(again.all()).toEqual(nodes.all());
  expect(again.ofCertificate("t2")?.name).toBe("web2");
  expect(again.ofCertificate("c2")).toMatchObject({ name: "web1", state: "removed" });
});

test("so many nodes are kept; room is made by forgetting those of which nothing can come back", () => {
  for (let count = 0; count < 10_000; count += 1) invite(`n${count}`, `t${count}`);
  join("t1", "key", "c1");
  expect(() => invite("one-more", "t")).toThrow("there are 10000 nodes");
  apps.clock.step(101 * SEC);
  invite("one-more", "t");
  expect(nodes.all()).toHaveLength(9_501);
  expect(nodes.get("n1")?.state).toBe("joined");
  expect([nodes.get("n0"), nodes.ofCertificate("t0")]).toEqual([undefined, undefined]);
  expect(new Nodes(core).all()).toHaveLength(9_501);
});

test("removing tells who listens, once; what is not there or not removed is said", () => {
  const heard: string[] = [];
  const stop = nodes.onRemoved((name) => heard.push(name));
  invite("web1", "t1");
  nodes.remove("web1", SERVICE_CONTEXT);
  expect(() => nodes.remove("web1", SERVICE_CONTEXT)).toThrow("was removed already");
  expect(() => nodes.remove("web9", SERVICE_CONTEXT)).toThrow(expect.objectContaining({ code: "NOT_FOUND" }));
  expect(() => nodes.allow("web9", { oldCertificates: false }, SERVICE_CONTEXT)).toThrow("there is no node");
  expect(() => nodes.addCertificate("web1", certificate("c"), SERVICE_CONTEXT)).toThrow("there is no node");
  stop();
  invite("web2", "t2");
  expect(() => nodes.allow("web2", { oldCertificates: false }, SERVICE_CONTEXT)).toThrow("is not removed");
  nodes.remove("web2", SERVICE_CONTEXT);
  expect(heard).toEqual(["web1"]);
});

test("certificates that have expired are forgotten, and of one node so many are known", () => {
  invite("web1", "t1");
  join("t1", "key", "c0");
  apps.clock.step(1001 * SEC);
  for (let count = 1; count <= 70; count += 1) nodes.addCertificate("web1", certificate(`c${count}`), SERVICE_CONTEXT);
  const row = nodes.get("web1");
  expect(row?.certificates).toHaveLength(64);
  expect(row?.certificates[0]?.thumbprint).toBe("c70");
  expect(row?.invite).toBeUndefined();
  expect(nodes.ofCertificate("c0")).toBeUndefined();
  expect(nodes.ofCertificate("c1")).toBeUndefined();
});

describe("with the service's own authority", () => {
  test("only certificates that the service has given are admitted, each under its own name", () => {
    invite("web1", "t1");
    join("t1", "key", "c1");
    const own = gate("listed");
    expect(own.admission(peer("web1", "c1"))).toEqual({ kind: "admitted" });
    expect(own.admission(peer("web2", "c1"))).toMatchObject({ kind: "refused" });
    expect(own.admission(peer("web1", "made-with-a-stolen-ca-key"))).toMatchObject({ kind: "refused" });
    expect(own.isAllowed(peer("web1", "c1"))).toBe(true);
  });

  test("a ticket may join until it is over, used or not", () => {
    invite("web1", "t1");
    const own = gate("listed");
    expect(own.admission(peer("web1", "t1"))).toEqual({ kind: "invited" });
    expect(own.isAllowed(peer("web1", "t1"))).toBe(false);
    join("t1", "key", "c1");
    expect(own.admission(peer("web1", "t1"))).toEqual({ kind: "invited" });
    apps.clock.step(101 * SEC);
    expect(own.admission(peer("web1", "t1"))).toMatchObject({ kind: "refused", reason: "its ticket has expired" });
  });

  test("a removed node is told so; an expired certificate too, on a connection that was there before", () => {
    invite("web1", "t1");
    join("t1", "key", "c1");
    expect(gate("listed").admission(peer("web1", "c1", -1))).toMatchObject({ reason: "its certificate has expired" });
    nodes.remove("web1", SERVICE_CONTEXT);
    expect(gate("listed").admission(peer("web1", "c1"))).toMatchObject({
      kind: "refused",
      reason: expect.stringMatching(/^node "web1" was removed from the service on 2023-/),
    });
  });
});

describe("with another authority", () => {
  test("what it signed is admitted, and is listed from then on; a new certificate is noted, once", () => {
    const other = gate("authority");
    const before = core.lastLsn;
    for (let round = 0; round < 3; round += 1) expect(other.admission(peer("web1", "c1")).kind).toBe("admitted");
    expect(other.admission(peer("web1", "c2")).kind).toBe("admitted");
    expect(nodes.get("web1")).toMatchObject({
      state: "joined",
      certificates: [{ thumbprint: "c2" }, { thumbprint: "c1" }],
    });
    expect(core.lastLsn - before).toBe(2);
    expect(other.lastSeen("web1")).toMatchObject({ address: "10.0.0.2:1" });
  });

  test("a certificate whose common name can name no node is refused", () => {
    expect(gate("authority").admission(peer("", "c1"))).toMatchObject({ kind: "refused" });
  });

  test("a removed node is refused with any certificate, until it is allowed; then with a new one, or with all", () => {
    const other = gate("authority");
    other.admission(peer("web1", "c1"));
    nodes.remove("web1", SERVICE_CONTEXT);
    for (const thumbprint of ["c1", "c2"]) expect(other.admission(peer("web1", thumbprint)).kind).toBe("refused");
    nodes.allow("web1", { oldCertificates: false }, SERVICE_CONTEXT);
    expect(other.admission(peer("web1", "c1"))).toMatchObject({
      kind: "refused",
      reason: expect.stringContaining("this certificate"),
    });
    expect(other.admission(peer("web1", "c2")).kind).toBe("admitted");
    expect(other.admission(peer("web1", "c1")).kind).toBe("refused");
    nodes.remove("web1", SERVICE_CONTEXT);
    nodes.allow("web1", { oldCertificates: true }, SERVICE_CONTEXT);
    for (const thumbprint of ["c1", "c2"]) expect(other.admission(peer("web1", thumbprint)).kind).toBe("admitted");
  });

  test("a full disk keeps nobody out whom the authority lets in, and the log says so", () => {
    const log = memoryLog();
    const asked = {
      get: (name: string) => nodes.get(name),
      see: () => {
        throw new Error("ENOSPC");
      },
    };
    const other = new NodeGate(asked as unknown as Nodes, { trust: "authority", clock: apps.clock, log });
    for (let round = 0; round < 3; round += 1)
      expect(other.admission(peer("web1", "c1"))).toEqual({ kind: "admitted" });
    expect(log.at("warn")).toHaveLength(1);
  });
});
