import { createPrivateKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { chmodSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { decodeJwt, decodeProtectedHeader, type JWTPayload, SignJWT, UnsecuredJWT } from "jose";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Random } from "../../../test/model/random.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { type AppId, type InodeId, LIVE, type ShareId } from "../../domain/ids.ts";
import { TOKEN_TYPE } from "../../domain/token.ts";
import { SERVICE_CONTEXT } from "../open-app.ts";
import { LOCAL_PEER, outcome, SERVICE_ID, TokenFixture } from "./test-tokens.ts";

let fixture: TokenFixture;

beforeEach(async () => {
  fixture = await TokenFixture.open();
});

afterEach(() => fixture.close());

const keyFile = (): string => path.join(fixture.apps.folder, "tokens", "key.json");

/** The service's own key: what a thief of the key file would have. */
function ownKey(): { key: KeyObject; kid: string } {
  const { id, key } = JSON.parse(readFileSync(keyFile(), "utf8")) as { id: string; key: { kty: string } };
  return { key: createPrivateKey({ key, format: "jwk" }), kid: id };
}

type Forgery = { readonly payload?: JWTPayload; readonly header?: Record<string, unknown>; readonly key?: KeyObject };

/** A good token, and one like it with something else in it, signed with the service's own key unless said otherwise. */
async function forge({ payload = {}, header = {}, key }: Forgery): Promise<string> {
  const good = await fixture.token({ ops: ["list", "read"] });
  const own = ownKey();
  return new SignJWT({ ...decodeJwt(good), ...payload })
    .setProtectedHeader({ alg: "EdDSA", typ: TOKEN_TYPE, kid: own.kid, ...header })
    .sign(key ?? own.key);
}

async function refusedWith(token: string, exchange: object = {}): Promise<string> {
  const failed = await fixture.tokens
    .exchange(token, { ...fixture.exchange, ...exchange })
    .catch((error: Error) => error);
  if (!(failed instanceof Error)) throw new Error("it was granted");
  expect(failed).toMatchObject({ code: "PERMISSION_DENIED" });
  // Neither the token nor a part of it is in the error, its cause or its data.
  const said = JSON.stringify({
    message: failed.message,
    data: (failed as { data?: unknown }).data,
    cause: String(failed.cause),
  });
  for (const part of token.split(".").filter((each) => each.length > 20)) expect(said).not.toContain(part.slice(0, 20));
  return failed.message;
}

describe("a token is granted", () => {
  test("for the share it was made for, with exactly its rights", async () => {
    const grant = await fixture.tokens.exchange(await fixture.token({ ops: ["list", "read"] }), fixture.exchange);
    expect([...grant.ops]).toEqual(["list", "read"]);
    expect(grant).toMatchObject({ root: fixture.root, wholeShare: true });
    expect(grant.readOnly).toBe(true);
    expect(fixture.tokens.sessionCount(grant.id)).toBe(1);
    grant.release();
    expect(fixture.tokens.sessionCount(grant.id)).toBe(0);
  });

  test("with the past inside of the share only for who may look there", async () => {
    const views = async (wanted: Parameters<TokenFixture["token"]>[0]): Promise<string> => {
      const grant = await fixture.tokens.exchange(await fixture.token(wanted), fixture.exchange);
      return (["off", "root", "users"] as const).map((option) => grant.viewsOf(option)).join(" ");
    };
    const ops = ["list", "read", "history"] as const;
    expect(await views({ ops })).toBe("off root users");
    expect(await views({ ops: ["list", "read"] })).toBe("off off off");
    expect(await views({ ops, root: fixture.app.mkdir(fixture.root, "d").ino })).toBe("off off off");
    expect(await views({ ops, identity: { kind: "claimed", squashRoot: true } })).toBe("off root users");
    expect(await views({ ops, identity: { kind: "all", uid: 0, gid: 0 } })).toBe("off root root");
    expect(await views({ ops, identity: { kind: "all", uid: 1000, gid: 0 } })).toBe("off off root");
  });

  test("for every share of its app, when it is for the app", async () => {
    const { shareId: _, ...rights } = fixture.rights({ ops: ["read"] });
    const { token } = await fixture.tokens.create(rights, { lifetimeMs: 60_000 });
    const exchange = { ...fixture.exchange, shareId: "77".repeat(16) as ShareId };
    expect((await fixture.tokens.exchange(token, exchange)).shareId).toBe(exchange.shareId);
  });

  test("to the node and with the certificate it is bound to", async () => {
    const bound = { ...fixture.rights({ ops: ["read"] }), node: "n1", certificateThumbprint: "A".repeat(43) };
    const { token } = await fixture.tokens.create(bound, { lifetimeMs: 60_000 });
    const peer = { ...LOCAL_PEER, node: "n1", certificateThumbprint: "A".repeat(43) };
    await expect(fixture.tokens.exchange(token, { ...fixture.exchange, peer })).resolves.toBeDefined();
    expect(await refusedWith(token, { peer: { ...peer, node: "n2" } })).toMatch(
      /for the node "n1" alone, and this is the node "n2"/,
    );
    expect(await refusedWith(token, { peer: { ...peer, node: "" } })).toMatch(/for the node "n1" alone/);
    expect(await refusedWith(token, { peer: { ...peer, certificateThumbprint: "" } })).toMatch(/another certificate/);
  });
});

describe("a token is refused", () => {
  test("when it is altered", async () => {
    const good = await fixture.token({ ops: ["list"] });
    const [header = "", , signature = ""] = good.split(".");
    const claims = { ...decodeJwt(good), ops: ["list", "write"] };
    const altered = [header, Buffer.from(JSON.stringify(claims)).toString("base64url"), signature].join(".");
    expect(await refusedWith(altered)).toMatch(/signature is wrong/);
    expect(await refusedWith(`${good.slice(0, -4)}AAAA`)).toMatch(/signature is wrong/);
  });

  test("when it is signed with another key, by another algorithm, or not at all", async () => {
    const { privateKey } = generateKeyPairSync("ed25519");
    expect(await refusedWith(await forge({ key: privateKey }))).toMatch(/signature is wrong/);
    expect(await refusedWith(await forge({ key: privateKey, header: { kid: "unknown" } }))).toMatch(
      /does not know the key/,
    );
    expect(await refusedWith(await forge({ header: { kid: undefined } }))).toMatch(/does not know the key/);
    const claims = decodeJwt(await fixture.token({ ops: ["list"] }));
    // The key's public half as a secret: what takes the algorithm from the token would find this signature right.
    const x = decodeProtectedHeader(await fixture.token({ ops: ["list"] })).kid ?? "";
    const confused = await new SignJWT(claims)
      .setProtectedHeader({ alg: "HS256", typ: TOKEN_TYPE, kid: ownKey().kid })
      .sign(Buffer.from(x));
    expect(await refusedWith(confused)).toMatch(/not signed with EdDSA/);
    const { privateKey: elliptic } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const es256 = await new SignJWT(claims)
      .setProtectedHeader({ alg: "ES256", typ: TOKEN_TYPE, kid: ownKey().kid })
      .sign(elliptic);
    expect(await refusedWith(es256)).toMatch(/not signed with EdDSA/);
    const none = new UnsecuredJWT(claims).encode();
    expect(await refusedWith(none)).toMatch(/not a token of Tidemark/);
    expect(await refusedWith(`${none}AAAA`)).toMatch(/is refused/);
  });

  test("whose key is in the token itself", async () => {
    const { privateKey, publicKey } = generateKeyPairSync("ed25519");
    const jwk = publicKey.export({ format: "jwk" });
    expect(await refusedWith(await forge({ key: privateKey, header: { jwk } }))).toMatch(/signature is wrong/);
    const jku = await forge({ key: privateKey, header: { kid: "mine", jku: "http://127.0.0.1:1/keys" } });
    expect(await refusedWith(jku)).toMatch(/does not know the key/);
  });

  test("of another kind, service or audience, though signed with the right key", async () => {
    expect(await refusedWith(await forge({ header: { typ: "JWT" } }))).toMatch(/another kind/);
    expect(await refusedWith(await forge({ header: { typ: undefined } }))).toMatch(/another kind/);
    expect(await refusedWith(await forge({ payload: { iss: "00".repeat(16) } }))).toMatch(
      /made by another service \(this one is 5e5e5e5e\)/,
    );
    expect(await refusedWith(await forge({ payload: { aud: "elsewhere" } }))).toMatch(/made for something else/);
    expect(await refusedWith(await forge({ payload: { iss: "00".repeat(16) }, header: { kid: "theirs" } }))).toMatch(
      /another service/,
    );
  });

  test.each(["exp", "nbf", "iat", "jti", "iss", "aud", "app", "ops", "ep", "gep"])("without %s", async (claim) => {
    expect(await refusedWith(await forge({ payload: { [claim]: undefined } }))).toMatch(
      new RegExp(`it has no "${claim}"`),
    );
  });

  test("when its rights are not those it was issued with, even if the key signed them: the key alone makes no tokens", async () => {
    for (const payload of [
      { ops: ["list", "read", "write"] },
      { root: 1 },
      { exp: 9_999_999_999 },
      { app: "ab".repeat(16) },
      { node: "x" },
    ]) {
      expect(await refusedWith(await forge({ payload }))).toMatch(/not what this service issued/);
    }
    expect(await refusedWith(await forge({ payload: { jti: "ab".repeat(16) } }))).toMatch(/does not know it/);
  });

  test("when it has expired, to the second, and no clock that is set back revives it", async () => {
    const token = await fixture.token({ ops: ["list"], lifetimeMs: 60_000 });
    const grant = await fixture.tokens.exchange(token, fixture.exchange);
    fixture.apps.clock.step(59_000_000_000);
    expect(grant.ended).toBeUndefined();
    fixture.apps.clock.step(1_000_000_000);
    expect(grant.ended).toMatch(/it expired at 2023-11-14T22:14:20Z/);
    expect(await refusedWith(token)).toMatch(/it expired at 2023-11-14T22:14:20Z/);
    fixture.apps.clock.step(-50_000_000_000);
    expect(grant.ended).toMatch(/expired/);
  });

  test("after its time by the monotonic clock, though the wall clock was set back meanwhile", async () => {
    const grant = await fixture.tokens.exchange(
      await fixture.token({ ops: ["list"], lifetimeMs: 60_000 }),
      fixture.exchange,
    );
    fixture.apps.clock.step(30_000_000_000);
    fixture.apps.clock.step(-1000_000_000_000);
    fixture.apps.clock.step(31_000_000_000);
    expect(grant.ended).toMatch(/expired/);
  });

  test("when the clock says that it is from the future, but for half a minute", async () => {
    const token = await fixture.token({ ops: ["list"] });
    fixture.apps.clock.step(-29_000_000_000);
    await expect(fixture.tokens.exchange(token, fixture.exchange)).resolves.toBeDefined();
    fixture.apps.clock.step(-2_000_000_000);
    expect(await refusedWith(token)).toMatch(/valid only from .* is the clock/);
  });

  test("for another app or share", async () => {
    const token = await fixture.token({ ops: ["list"] });
    expect(await refusedWith(token, { appId: "ab".repeat(16) as AppId })).toMatch(/for another app/);
    expect(await refusedWith(token, { shareId: "ab".repeat(16) as ShareId })).toMatch(/for another share/);
  });

  test("for what it is not for in one and the same way, whether that is there or not", async () => {
    const token = await fixture.token({ ops: ["list"] });
    const missing = (): never => {
      throw new TidemarkError("NOT_FOUND", "there is none");
    };
    const app = fixture.app.app;
    const other = { id: "ab".repeat(16) as AppId };
    const ask = async (findApp: () => { id: AppId }, findShare: () => { id: ShareId; root: InodeId }) =>
      fixture.tokens.exchangeNamed(token, { peer: LOCAL_PEER, findApp, findShare }).then(
        ({ grant }) => grant.id,
        (error: Error) => error.message,
      );
    const here = () => ({ id: fixture.share.id, root: fixture.root });
    expect(await ask(() => app, here)).toMatch(/^[0-9a-f]{32}$/);
    const otherApp = await ask(() => other, here);
    expect(otherApp).toMatch(/for another app/);
    expect(await ask(missing, here)).toBe(otherApp);
    expect(await ask(() => other, missing)).toBe(otherApp);
    const otherShare = await ask(
      () => app,
      () => ({ id: "ab".repeat(16) as ShareId, root: fixture.root }),
    );
    expect(otherShare).toMatch(/for another share/);
    expect(await ask(() => app, missing)).toBe(otherShare);
    const garbage = { peer: LOCAL_PEER, findApp: missing, findShare: missing };
    await expect(fixture.tokens.exchangeNamed("a.b.c", garbage)).rejects.toThrow(/not a token/);
  });

  test("whatever bytes of a good one are changed, added or left out", async () => {
    const seed = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 31));
    const random = new Random(seed);
    const good = await fixture.token({ ops: ["list"] });
    const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \n\0é";
    for (let round = 0; round < 2_000; round++) {
      const at = random.below(good.length);
      const letter = letters[random.below(letters.length)] ?? "";
      const cut = random.below(3);
      const changed = good.slice(0, at) + (cut === 2 ? "" : letter) + good.slice(at + (cut === 1 ? 0 : 1));
      // The last letters of base64url parts have bits that mean nothing: other texts of the same bytes.
      const isSame = good
        .split(".")
        .every((part, index) =>
          Buffer.from(part, "base64url").equals(Buffer.from(changed.split(".")[index] ?? "", "base64url")),
        );
      const answer = await fixture.tokens.exchange(changed, fixture.exchange).then(
        () => "granted",
        (error: { code: string }) => error.code,
      );
      if (answer !== "PERMISSION_DENIED" && !isSame) throw new Error(`SEED=${seed} round ${round}: ${answer}`);
    }
  });

  test("when it is none at all", async () => {
    const long = "a".repeat(9_000);
    for (const text of [
      "",
      " ",
      "a.b",
      "a.b.c",
      "a.b.c.d",
      "x".repeat(100),
      `${long}.${long}.${long}`,
      "é.é.é",
      "..",
      "{}",
    ])
      expect(await refusedWith(text)).toMatch(/not a token of Tidemark/);
  });

  test("and that is in the audit log, without the token", async () => {
    await refusedWith("a.b.c");
    const token = await fixture.token({ ops: ["list"], lifetimeMs: 1_000 });
    fixture.apps.clock.step(3_000_000_000);
    await refusedWith(token);
    const entries = (await fixture.audited()).filter(({ kind }) => kind === "refused");
    expect(entries.map(({ who, what, why }) => ({ who, what, why }))).toEqual([
      { who: "10.0.0.2", what: "exchange", why: "it is not a token of Tidemark" },
      { who: "10.0.0.2", what: "exchange", why: "it expired at 2023-11-14T22:13:21Z" },
    ]);
    expect(JSON.stringify(entries)).not.toContain(token.split(".")[1]);
  });
});

describe("taking back", () => {
  const list = { op: "readdir", cookie: 0n, entriesMax: 9, plus: false, at: LIVE } as const;

  test("one token ends what it opened, at the next request, and nothing else", async () => {
    const [one, other] = [await fixture.guard({ ops: ["list"] }), await fixture.guard({ ops: ["list"] })];
    const heard: string[] = [];
    one.grant.onEnded((reason) => heard.push(reason));
    const row = fixture.tokens.list().find(({ claims }) => claims.jti === one.grant.id);
    if (row === undefined) throw new Error("not listed");
    expect(await outcome(one, { ...list, ino: fixture.root })).toBe("ok");
    expect(await fixture.tokens.revoke(row, SERVICE_CONTEXT)).toEqual({ revoked: 1, ended: 1 });
    expect(await outcome(one, { ...list, ino: fixture.root })).toBe("EACCES");
    expect(await outcome(one, { op: "forget", ino: fixture.root, lookups: 0 })).toBe("ok");
    expect(await outcome(other, { ...list, ino: fixture.root })).toBe("ok");
    expect(heard).toEqual(["it was revoked"]);
    fixture.timers.advance(5_000);
    expect(heard).toHaveLength(1);
  });

  test("all of an app, and all there are; those made afterwards are good", async () => {
    const early = await fixture.token({ ops: ["list"] });
    const open = await fixture.guard({ ops: ["list"] });
    expect(await fixture.tokens.revokeApp(fixture.app.app.id, SERVICE_CONTEXT)).toEqual({ revoked: 2, ended: 1 });
    expect(open.grant.ended).toMatch(/all tokens of its app/);
    expect(await refusedWith(early)).toMatch(/it was revoked/);
    const late = await fixture.token({ ops: ["list"] });
    await expect(fixture.tokens.exchange(late, fixture.exchange)).resolves.toBeDefined();
    expect(await fixture.tokens.revokeApp("ab".repeat(16) as AppId, SERVICE_CONTEXT)).toEqual({ revoked: 0, ended: 0 });
    expect(await fixture.tokens.revokeAll(SERVICE_CONTEXT)).toEqual({ revoked: 1, ended: 1 });
    expect(await refusedWith(late)).toMatch(/it was revoked/);
  });

  test("survives a restart, as do the tokens that are good", async () => {
    const [gone, good] = [await fixture.token({ ops: ["list"] }), await fixture.token({ ops: ["list"] })];
    const row = fixture.tokens.list().find(({ claims }) => claims.jti === decodeJwt(gone).jti);
    if (row === undefined) throw new Error("not listed");
    await fixture.tokens.revoke(row, SERVICE_CONTEXT);
    fixture.tokens = (await TokenFixture.parts(fixture.apps, fixture.system, fixture.timers)).tokens;
    expect(await refusedWith(gone)).toMatch(/it was revoked/);
    const grant = await fixture.tokens.exchange(good, fixture.exchange);
    expect(fixture.tokens.resume(grant.id, fixture.exchange).id).toBe(grant.id);
  });

  test("what has expired is told of within a second, if nobody asks", async () => {
    const grant = await fixture.tokens.exchange(
      await fixture.token({ ops: ["list"], lifetimeMs: 2_000 }),
      fixture.exchange,
    );
    const heard: string[] = [];
    grant.onEnded((reason) => heard.push(reason));
    fixture.apps.clock.step(2_000_000_000);
    fixture.timers.advance(1_000);
    expect(heard).toEqual(["it expired at 2023-11-14T22:13:22Z"]);
  });

  test("a mount that lives on without a good token gets a grant that allows nothing", async () => {
    const grant = await fixture.tokens.exchange(await fixture.token({ ops: ["list"] }), fixture.exchange);
    await fixture.tokens.revokeAll(SERVICE_CONTEXT);
    expect(() => fixture.tokens.resume(grant.id, fixture.exchange)).toThrow(/it was revoked/);
    expect(fixture.tokens.goOn(grant.id, fixture.exchange).ended).toMatch(/it was revoked/);
    expect(fixture.tokens.goOn("ab".repeat(16) as typeof grant.id, fixture.exchange).ended).toMatch(/does not know it/);
  });
});

describe("keys", () => {
  test("are for their owner alone, and only their public half is in the journal", async () => {
    await fixture.token({ ops: ["list"] });
    expect(statSync(keyFile()).mode & 0o777).toBe(0o600);
    expect(statSync(path.dirname(keyFile())).mode & 0o777).toBe(0o700);
    const { d } = (JSON.parse(readFileSync(keyFile(), "utf8")) as { key: { d: string } }).key;
    await fixture.system.settle();
    const journal = path.join(fixture.apps.folder, "system");
    for (const file of readdirSync(journal)) expect(readFileSync(path.join(journal, file)).includes(d)).toBe(false);
  });

  test("rotate: what was signed stays good, unless it is to be revoked", async () => {
    const first = await fixture.token({ ops: ["list"] });
    const open = await fixture.tokens.exchange(first, fixture.exchange);
    expect(await fixture.tokens.rotateKeys({ revokeOld: false }, SERVICE_CONTEXT)).toMatchObject({
      revoked: 0,
      ended: 0,
    });
    const second = await fixture.token({ ops: ["list"] });
    expect(decodeProtectedHeader(second).kid).not.toBe(decodeProtectedHeader(first).kid);
    await expect(fixture.tokens.exchange(first, fixture.exchange)).resolves.toBeDefined();
    expect(await fixture.tokens.rotateKeys({ revokeOld: true }, SERVICE_CONTEXT)).toMatchObject({
      revoked: 2,
      ended: 2,
    });
    expect(open.ended).toMatch(/the key that signed it was revoked/);
    for (const token of [first, second]) expect(await refusedWith(token)).toMatch(/the key that signed it was revoked/);
    await expect(
      fixture.tokens.exchange(await fixture.token({ ops: ["list"] }), fixture.exchange),
    ).resolves.toBeDefined();
  });

  test("that were retired or revoked sign nothing more, though the file is put back", async () => {
    const first = await fixture.token({ ops: ["list"] });
    const old = readFileSync(keyFile());
    await fixture.tokens.rotateKeys({ revokeOld: false }, SERVICE_CONTEXT);
    writeFileSync(keyFile(), old);
    fixture.tokens = (await TokenFixture.parts(fixture.apps, fixture.system, fixture.timers)).tokens;
    const next = await fixture.token({ ops: ["list"] });
    expect(decodeProtectedHeader(next).kid).not.toBe(decodeProtectedHeader(first).kid);
  });

  test.each([
    ["lost", (): void => writeFileSync(keyFile(), "")],
    ["damaged", (): void => writeFileSync(keyFile(), "{")],
    [
      "another's",
      (): void =>
        writeFileSync(
          keyFile(),
          JSON.stringify({
            version: 1,
            id: "x",
            key: generateKeyPairSync("ed25519").privateKey.export({ format: "jwk" }),
          }),
        ),
    ],
    [
      "no Ed25519 key",
      (): void =>
        writeFileSync(
          keyFile(),
          JSON.stringify({
            version: 1,
            id: ownKey().kid,
            key: generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ format: "jwk" }),
          }),
        ),
    ],
  ])("that are %s are replaced, and earlier tokens stay good", async (_, harm) => {
    const first = await fixture.token({ ops: ["list"] });
    harm();
    fixture.tokens = (await TokenFixture.parts(fixture.apps, fixture.system, fixture.timers)).tokens;
    const next = await fixture.token({ ops: ["list"] });
    for (const token of [first, next])
      await expect(fixture.tokens.exchange(token, fixture.exchange)).resolves.toBeDefined();
  });

  test("that others can read are made private again", async () => {
    await fixture.token({ ops: ["list"] });
    chmodSync(keyFile(), 0o644);
    await TokenFixture.parts(fixture.apps, fixture.system, fixture.timers);
    expect(statSync(keyFile()).mode & 0o777).toBe(0o600);
  });

  test("of another service are no keys of this one", async () => {
    const token = await fixture.token({ ops: ["list"] });
    const other = await TokenFixture.parts(
      fixture.apps,
      await fixture.apps.app("other system"),
      fixture.timers,
      `${SERVICE_ID.slice(2)}00`,
    );
    await expect(other.tokens.exchange(token, fixture.exchange)).rejects.toThrow(/made by another service/);
    other.tokens.close();
  });
});
