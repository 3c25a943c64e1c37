import { randomBytes } from "node:crypto";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ManualTimers } from "../../base/timers.ts";
import type { AdminApi } from "../../domain/admin-api.ts";
import type { CallOptions } from "../../domain/admin-call.ts";
import type { ChangesPage } from "../../domain/admin-changes.ts";
import type { TokenId, TokenOp } from "../../domain/token.ts";
import { SERVICE_CONTEXT } from "../open-app.ts";
import { Changes } from "../reading/changes.ts";
import { Reading } from "../reading/reading.ts";
import { Snapshots } from "../reading/snapshots.ts";
import { all } from "../reading/test-app.ts";
import { Restores } from "../restore/restores.ts";
import { createShare, updateShare } from "../shares.ts";
import { heldAdmin } from "./doors.ts";
import { LOCAL_PEER, TokenFixture, type Wanted } from "./test-tokens.ts";

let fixture: TokenFixture;
let restores: Restores;
let held: AdminApi;
let isDeleted: boolean;

beforeEach(async () => {
  isDeleted = false;
  fixture = await TokenFixture.open();
  const { apps, app, tokens, audit } = fixture;
  const timers = new ManualTimers();
  restores = new Restores({ ...apps.parts, newId: () => randomBytes(16).toString("hex") });
  const api = {
    changes: new Changes({ ...apps.parts, timers }),
    reading: new Reading(apps.parts),
    restores,
    snapshots: new Snapshots(apps.parts),
    nodes: { listNodes: () => [] },
  } as unknown as AdminApi;
  const service = {
    find: (ref: { name: string }) => apps.find(ref),
    get: () => app.app,
    nameOf: () => ({ namespace: "default", name: "shop" }),
    isDeleted: () => isDeleted,
  };
  held = heldAdmin({ api, service, tokens, audit });
  app.mkdir(fixture.root, "a");
  app.put(fixture.root, "a/seen", "1");
  app.put(fixture.root, "secret", "1");
  await app.settle();
});

afterEach(async () => {
  await restores.close();
  await fixture.close();
});

const NOW = { kind: "now" } as const;
const REFUSED = { code: "PERMISSION_DENIED" };

function calls(bearer: string | undefined, signal = new AbortController().signal): CallOptions {
  return { signal, peer: LOCAL_PEER, ...(bearer === undefined ? {} : { bearer }) } as CallOptions;
}

/** The pages of a feed that a caller with `bearer` gets. */
function feed(
  bearer: string | undefined,
  { follow = false, signal }: { follow?: boolean; signal?: AbortSignal } = {},
): AsyncIterator<ChangesPage> {
  const request = { path: fixture.app.path("files"), operations: [], follow };
  return held.changes.changes(request, calls(bearer, signal))[Symbol.asyncIterator]();
}

async function token(wanted: Partial<Wanted> = {}): Promise<string> {
  return fixture.token({ ops: ["history"], ...wanted });
}

/** Runs a stream to its end. */
const finish = async (stream: AsyncIterable<unknown>): Promise<void> => {
  for await (const _ of stream);
};

const textOf = async (pieces: AsyncIterable<Buffer>): Promise<string> => {
  const read: Buffer[] = [];
  for await (const piece of pieces) read.push(piece);
  return Buffer.concat(read).toString();
};

describe("a caller", () => {
  test("without a token, with one that is none, or that does not allow it, is told nothing, and refusals are in the audit log", async () => {
    await expect(feed(undefined).next()).rejects.toMatchObject(REFUSED);
    await expect(feed("a.b.c").next()).rejects.toMatchObject(REFUSED);
    const other = await token({ ops: ["read", "list", "write"] });
    await expect(feed(other).next()).rejects.toMatchObject({
      ...REFUSED,
      message: expect.stringContaining("history") as string,
    });
    const refused = (await fixture.audited()).filter(({ kind }) => kind === "refused");
    expect(refused.map(({ what, why }) => `${what} ${why}`).join("; ")).toContain("changes.changes it takes history");
    expect(JSON.stringify(refused)).not.toContain(other);
  });

  test("finds nothing but what the table has, whatever the token allows", async () => {
    const bearer = await token({ ops: ["admin"], wholeApp: true });
    expect(() => held.nodes.listNodes(calls(bearer))).toThrow(/own machine/);
    expect(() => held.changes.changes).not.toThrow();
  });

  test("is not told whether there is another app or share", async () => {
    await fixture.apps.app("other");
    const bearer = await token({ ops: ["list", "read", "history"] });
    const ask = async (text: { app: string; share: string }): Promise<string> => {
      const path = {
        app: { namespace: "default", name: text.app },
        share: { name: text.share },
        path: Buffer.alloc(0),
      };
      return all(held.reading.list({ path, at: NOW }, calls(bearer))).then(String, String);
    };
    fixture.app.share("second");
    const [missing, there] = [
      await ask({ app: "shop", share: "missing" }),
      await ask({ app: "shop", share: "second" }),
    ];
    expect(missing).toMatch(/another share/);
    expect(there).toBe(missing);
    expect(await ask({ app: "other", share: "files" })).toMatch(/for the app shop/);
  });

  test("is cut off when its token expires, and told so", async () => {
    const pages = feed(await token({ lifetimeMs: 60_000 }), { follow: true });
    await pages.next();
    const next = pages.next();
    fixture.apps.clock.step(61_000_000_000);
    fixture.timers.advance(2_000);
    await expect(next).rejects.toMatchObject({ ...REFUSED, message: expect.stringContaining("expired") as string });
  });

  test("has some calls at a time under one token, not all; a call that ends makes room", async () => {
    const one = await token();
    const running: { pages: AsyncIterator<unknown>; abort: AbortController }[] = [];
    const start = async (bearer: string): Promise<void> => {
      const abort = new AbortController();
      const pages = feed(bearer, { follow: true, signal: abort.signal });
      await pages.next();
      running.push({ pages, abort });
    };
    const stop = async ({ pages, abort }: (typeof running)[number]): Promise<void> => {
      abort.abort();
      await pages.return?.();
    };
    for (let count = 0; count < 8; count++) await start(one);
    await expect(start(one)).rejects.toMatchObject({ code: "UNAVAILABLE" });
    for (let other = 0; other < 3; other++) {
      const bearer = await token();
      for (let count = 0; count < 8; count++) await start(bearer);
    }
    await expect(start(await token())).rejects.toMatchObject({ code: "UNAVAILABLE" });
    for (const each of running.splice(0, 1)) await stop(each);
    await start(one);
    for (const each of running) await stop(each);
  });
});

describe("a token for a directory", () => {
  const inside = async (ops: readonly TokenOp[], more: Partial<Wanted> = {}): Promise<string> =>
    token({ ops, root: fixture.app.at(fixture.root, "a").ino, ...more });

  test("sees only what is below it in the feed", async () => {
    const page = (await feed(await inside(["history"])).next()).value as ChangesPage;
    expect(page.records.map(({ op }) => op)).toEqual(["CREATE", "WRITE"]);
    expect(page.records.flatMap(({ paths }) => paths.map(String))).toEqual(["seen", "seen"]);
  });

  test("reads what is inside, and finds nothing else, whether it is there or not", async () => {
    const options = calls(await inside(["list", "read"]));
    const read = (text: string): Promise<string> =>
      textOf(held.reading.read({ path: fixture.app.path(text), at: NOW, offset: 0n }, options));
    expect(await read("files/a/seen")).toBe("1");
    const [hidden, missing] = await Promise.all(
      ["files/secret", "files/missing"].map((text) => read(text).catch(String)),
    );
    expect(hidden).toMatch(/no such place/);
    expect(hidden).toBe(missing);
    await expect(all(held.reading.list({ path: fixture.app.path("files"), at: NOW }, options))).rejects.toMatchObject({
      code: "NOT_FOUND",
    });
    expect(await all(held.reading.list({ path: fixture.app.path("files/a"), at: NOW }, options))).toHaveLength(1);
  });

  test("goes by where things were at the moment that is asked about", async () => {
    const before = fixture.app.app.core.lastLsn;
    fixture.app.rename(fixture.root, "secret", "a/moved");
    await fixture.app.settle();
    const options = calls(await inside(["read", "history"]));
    const read = (text: string, at: Parameters<AdminApi["reading"]["read"]>[0]["at"]): Promise<string> =>
      textOf(held.reading.read({ path: fixture.app.path(text), at, offset: 0n }, options));
    expect(await read("files/a/moved", NOW)).toBe("1");
    await expect(read("files/secret", { kind: "lsn", lsn: before })).rejects.toMatchObject({ code: "NOT_FOUND" });
    expect(await read("files/a/seen", { kind: "lsn", lsn: before })).toBe("1");
    const now = calls(await inside(["read"]));
    const past = { path: fixture.app.path("files/a/seen"), at: { kind: "lsn", lsn: before }, offset: 0n } as const;
    await expect(textOf(held.reading.read(past, now))).rejects.toMatchObject(REFUSED);
  });

  test("can't restore: that takes the whole share", async () => {
    const request = { kind: "restore", source: fixture.app.path("files/a"), at: NOW, mode: "mirror" } as const;
    await expect(finish(held.restores.plan(request, calls(await inside(["restore"]))))).rejects.toThrow(/whole share/);
  });
});

describe("a token for a share", () => {
  test("restores in that share, as itself, and takes back only what it restored", async () => {
    const bearer = await token({ ops: ["restore"] });
    const options = calls(bearer);
    const at = { kind: "lsn", lsn: fixture.app.app.core.lastLsn } as const;
    fixture.app.put(fixture.root, "a/seen", "changed");
    await fixture.app.settle();
    const request = { kind: "restore", source: fixture.app.path("files/a"), at, mode: "mirror" } as const;
    const second = createShare(
      fixture.app.app.core,
      { ...fixture.share, name: "second", id: "ab".repeat(16) as never, views: "root" },
      SERVICE_CONTEXT,
    );
    await expect(
      finish(held.restores.plan({ ...request, target: fixture.app.path(`${second.name}/x`) }, options)),
    ).rejects.toThrow(/another share/);
    await expect(finish(held.restores.plan({ ...request, source: fixture.app.path("") }, options))).rejects.toThrow(
      /whole app/,
    );
    await finish(held.restores.execute(request, options));
    expect(fixture.app.at(fixture.root, "a/seen").size).toBe(1n);
    const app = fixture.app.path("files").app;
    const [done] = await held.restores.listRestores({ app, countMax: 9 }, options);
    expect(done?.actor.label).toMatch(/^token [0-9a-f]{32}$/);
    const stranger = calls(await token({ ops: ["restore"] }));
    expect(await held.restores.listRestores({ app, countMax: 9 }, stranger)).toEqual([]);
    await expect(finish(held.restores.execute({ kind: "undo", app }, stranger))).rejects.toThrow(/restored under it/);
    await finish(held.restores.execute({ kind: "undo", app }, options));
    expect(fixture.app.at(fixture.root, "a/seen").size).toBe(7n);
  });
});

test("a token whose users are mapped to others is held to mounts", async () => {
  const path = fixture.app.path("files/secret");
  const read = async (identity: Wanted["identity"]): Promise<string> => {
    const bearer = await token({ ops: ["read"], ...(identity === undefined ? {} : { identity }) });
    return textOf(held.reading.read({ path, at: NOW, offset: 0n }, calls(bearer)));
  };
  await expect(read({ kind: "all", uid: 1000, gid: 1000 })).rejects.toThrow(/mapped/);
  await expect(read({ kind: "claimed", squashRoot: true })).rejects.toThrow(/mapped/);
  await expect(read({ kind: "list", uids: [], gids: [] })).rejects.toThrow(/mapped/);
  expect(await read({ kind: "all", uid: 0, gid: 0 })).toBe("1");
});

describe("a token made under another", () => {
  const parent = async (lifetimeMs = 3_600_000): Promise<{ id: TokenId; text: string }> => {
    const rights = fixture.rights({ ops: ["admin", "read"], wholeApp: true });
    const made = await fixture.tokens.create(rights, { lifetimeMs });
    return { id: made.row.claims.jti, text: made.token };
  };
  const child = async (of: TokenId, lifetimeMs = 60_000) =>
    fixture.tokens.create({ ...fixture.rights({ ops: ["read"] }), parent: of }, { lifetimeMs });

  test("ends with it, grants included", async () => {
    const { id } = await parent();
    const { token: text, row } = await child(id);
    await expect(child(row.claims.jti)).rejects.toThrow(/makes none itself/);
    const grant = await fixture.tokens.exchange(text, fixture.exchange);
    const revoked = fixture.tokens.row(id);
    expect(await fixture.tokens.revoke(revoked as NonNullable<typeof revoked>, SERVICE_CONTEXT)).toEqual({
      revoked: 2,
      ended: 1,
    });
    expect(grant.ended).toBe("it was revoked");
    await expect(fixture.tokens.exchange(text, fixture.exchange)).rejects.toThrow(/revoked/);
  });

  test("ends with the key of the other", async () => {
    const { id } = await parent();
    await fixture.tokens.rotateKeys({ revokeOld: false }, SERVICE_CONTEXT);
    const { token: text } = await child(id);
    const grant = await fixture.tokens.exchange(text, fixture.exchange);
    await fixture.tokens.rotateKeys({ revokeOld: true }, SERVICE_CONTEXT);
    expect(grant.ended).toMatch(/key/);
  });

  test("outlives it in no case", async () => {
    const { id } = await parent(60_000);
    await expect(child(id, 61_000)).rejects.toThrow(/outlive/);
    await child(id, 60_000);
  });

  test("is one of a thousand at most", async () => {
    const { id } = await parent();
    for (let count = 0; count < 1_000; count++) await child(id);
    await expect(child(id)).rejects.toThrow(/1000 tokens/);
    fixture.apps.clock.step(61_000_000_000);
    await child(id);
  });

  test("is not good when the other one is not known any more", async () => {
    const { id } = await parent();
    const { row } = await child(id, 60_000);
    expect(fixture.tokens.stateOf(row)).toBe("valid");
    expect(fixture.tokens.stateOf({ ...row, claims: { ...row.claims, par: "ab".repeat(16) as TokenId } })).toBe(
      "valid",
    );
    const orphan = await fixture.tokens.create(fixture.rights({ ops: ["read"] }), { lifetimeMs: 60_000 });
    Object.assign(orphan.row.claims, { par: "ab".repeat(16) });
    expect(fixture.tokens.stateOf(orphan.row)).toBe("expired");
  });

  test("takes its calls from those of the other one", async () => {
    const { id } = await parent();
    const running: AbortController[] = [];
    const start = async (): Promise<void> => {
      const made = await fixture.tokens.create(
        { ...fixture.rights({ ops: ["history"] }), parent: id },
        { lifetimeMs: 60_000 },
      );
      const abort = new AbortController();
      running.push(abort);
      await feed(made.token, { follow: true, signal: abort.signal }).next();
    };
    for (let count = 0; count < 8; count++) await start();
    await expect(start()).rejects.toMatchObject({ code: "UNAVAILABLE" });
    for (const abort of running) abort.abort();
  });
});

describe("what is deleted", () => {
  test("a share is only in the past, and no restore brings it back", async () => {
    const { app, share } = fixture;
    const path = { ...app.path("files/secret"), share: { name: "files", id: share.id } };
    updateShare(app.app.core, share, { deleted: true }, SERVICE_CONTEXT);
    await app.settle();
    const now = calls(await token({ ops: ["read"] }));
    await expect(textOf(held.reading.read({ path, at: NOW, offset: 0n }, now))).rejects.toThrow(/takes history/);
    const past = calls(await token({ ops: ["read", "history"] }));
    expect(await textOf(held.reading.read({ path, at: NOW, offset: 0n }, past))).toBe("1");
    for (const wholeApp of [false, true]) {
      const options = calls(await token({ ops: ["restore", "admin"], wholeApp }));
      const at = { kind: "lsn", lsn: app.app.core.lastLsn } as const;
      const request = { kind: "restore", source: { ...path, path: Buffer.alloc(0) }, at, mode: "mirror" } as const;
      await expect(finish(held.restores.plan(request, options))).rejects.toThrow(/deleted/);
    }
  });

  test("an app can't be changed", async () => {
    isDeleted = true;
    const options = calls(await token({ ops: ["snapshot", "restore"] }));
    const { app } = fixture.app.path("");
    await expect(held.snapshots.createSnapshot({ app, name: "x", syncMounts: false }, options)).rejects.toThrow(
      /deleted/,
    );
  });
});

test("a whole app is put back by an admin only", async () => {
  const at = { kind: "lsn", lsn: fixture.app.app.core.lastLsn } as const;
  const request = { kind: "restore", source: fixture.app.path(""), at, mode: "mirror" } as const;
  const plan = async (ops: readonly TokenOp[]): Promise<void> =>
    finish(held.restores.plan(request, calls(await token({ ops, wholeApp: true }))));
  await expect(plan(["restore"])).rejects.toThrow(/takes admin/);
  await plan(["restore", "admin"]);
});

test("a file with a name inside is not told of by a name outside", async () => {
  const { app, root } = fixture;
  app.run({ op: "link", ino: app.at(root, "a/seen").ino, parent: root, name: Buffer.from("other") });
  await app.settle();
  const options = calls(await token({ ops: ["read"], root: app.at(root, "a").ino }));
  for (const name of ["files/other", "files/none"])
    await expect(held.reading.stat({ path: app.path(name), at: NOW }, options)).rejects.toThrow(/no such place/);
});

test("junk takes no place from those who have a token", async () => {
  const junk = Array.from({ length: 64 }, () => feed("a.b.c").next().catch(String));
  await feed(await token()).next();
  expect(new Set(await Promise.all(junk)).size).toBe(1);
});
