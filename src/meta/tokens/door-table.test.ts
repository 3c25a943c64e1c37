import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { AdminApi } from "../../domain/admin-api.ts";
import type { CallOptions } from "../../domain/admin-call.ts";
import { TOKEN_OP_NAMES, type TokenOp } from "../../domain/token.ts";
import { TOKEN_DOORS, type TokenDoor } from "../../domain/token-doors.ts";
import { PAST_NEED, type TokenNeed } from "../../domain/token-needs.ts";
import { heldAdmin } from "./doors.ts";
import { LOCAL_PEER, TokenFixture, type Wanted } from "./test-tokens.ts";

let fixture: TokenFixture;
/** What was carried out last. */
let done: { call: string; request: unknown; label: string | undefined; underToken: boolean | undefined } | undefined;
let held: AdminApi;

/** An API that writes down what it is asked, and answers nothing. */
function recorder(): AdminApi {
  const answers = new Map(TOKEN_DOORS.map(({ call, answers: kind }) => [call, kind]));
  const role = (name: string): object =>
    new Proxy(
      {},
      {
        get: (_, method) => (request: unknown, options?: CallOptions) => {
          const call = `${name}.${String(method)}`;
          done = { call, request, label: options?.actor?.label, underToken: options?.underToken };
          if (call === "backups.backupStatus") return pagesOf({ repository: "main" });
          return answers.get(call) === "one" ? Promise.resolve([]) : pagesOf();
        },
      },
    );
  const roles = [...new Set(TOKEN_DOORS.map(({ call }) => call.split(".")[0] ?? ""))];
  return Object.fromEntries(roles.map((name) => [name, role(name)])) as unknown as AdminApi;
}

async function* pagesOf(...items: object[]): AsyncGenerator<object[]> {
  yield items;
}

beforeAll(async () => {
  fixture = await TokenFixture.open();
  const { app, tokens, audit } = fixture;
  const service = {
    find: () => app.app,
    get: () => app.app,
    nameOf: () => ({ namespace: "default", name: "shop" }),
    isDeleted: () => false,
  };
  held = heldAdmin({ api: recorder(), service, tokens, audit });
});
afterAll(() => fixture.close());

const APP = { namespace: "default", name: "shop" };
const PATH = { app: APP, share: { name: "files" }, path: Buffer.from("a") };
const NOW = { kind: "now" } as const;
const THEN = { kind: "lsn", lsn: 1 } as const;

/** A request of each call, about the share of the fixture, or its app. */
function sample({ call, subject }: TokenDoor): object {
  if (call === "catalogue.listApps") return { deleted: "without" };
  if (call === "restores.plan" || call === "restores.execute")
    return { kind: "restore", source: PATH, at: THEN, mode: "mirror" };
  if (call.startsWith("reading.") && subject === "place") return { path: PATH, at: NOW };
  if (call === "tokens.revokeTokens") return { kind: "id", id: fixture.tokens.list()[0]?.claims.jti };
  if (call === "backups.enableBackup") return { app: APP, repository: "main" };
  return subject === "place" || subject === "share" ? { path: PATH } : { app: APP };
}

async function outcome(door: TokenDoor, wanted: Wanted, request = sample(door)): Promise<string> {
  done = undefined;
  const [role, name] = door.call.split(".") as [keyof AdminApi, string];
  const method = Reflect.get(held[role], name) as (request: object, options: object) => unknown;
  fixture.apps.clock.step(1_000_000_000);
  const bearer = await fixture.token({ lifetimeMs: 360_000_000, ...wanted });
  const options = { peer: LOCAL_PEER, bearer };
  // One takes itself back: it is the newest.
  const about = door.call === "tokens.revokeTokens" ? sample(door) : request;
  try {
    const answer = method(about, options);
    if (door.answers === "one") await answer;
    else for await (const _ of answer as AsyncIterable<unknown>);
    return "done";
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
}

/** One operation of each need, in all ways to choose. */
function choices(needs: readonly TokenNeed[]): TokenOp[][] {
  return needs.reduce<TokenOp[][]>((sets, need) => sets.flatMap((set) => need.map((op) => [...set, op])), [[]]);
}

const forIt = (door: TokenDoor): { wholeApp: boolean } => ({ wholeApp: door.subject === "app" });

test("each call is in the table once", () => {
  const names = TOKEN_DOORS.map(({ call }) => call);
  expect(new Set(names).size).toBe(names.length);
});

describe.each(TOKEN_DOORS.map((door) => ({ door, title: door.call })))("$title", ({ door }) => {
  test("is carried out with exactly what the table says, as the token", async () => {
    for (const chosen of choices(door.needs)) {
      const ops: readonly TokenOp[] = chosen.length === 0 ? ["setattr"] : chosen;
      expect([ops, await outcome(door, { ops, ...forIt(door) })]).toEqual([ops, "done"]);
      expect(done).toMatchObject({ call: door.call, label: expect.stringMatching(/^token [0-9a-f]{32}$/) });
    }
  });

  test("is refused without any one of it, whatever else is allowed", async () => {
    for (const need of door.needs) {
      const ops = TOKEN_OP_NAMES.filter((op) => !need.includes(op));
      expect([need, await outcome(door, { ops, ...forIt(door) })]).toEqual([need, "PERMISSION_DENIED"]);
      expect(done).toBeUndefined();
    }
  });

  test("takes a token for as much as it is about", async () => {
    const ops = TOKEN_OP_NAMES;
    const share = door.subject === "app" ? "PERMISSION_DENIED" : "done";
    expect(await outcome(door, { ops })).toBe(share);
    expect(await outcome(door, { ops, wholeApp: true })).toBe("done");
    if (door.subject !== "share") return;
    const { ino } = fixture.app.mkdir(fixture.root, `of ${door.call}`);
    expect(await outcome(door, { ops, root: ino })).toBe("PERMISSION_DENIED");
  });

  test("takes history as well when it is about the past, where the table says so", async () => {
    const request = { ...sample(door), at: THEN };
    for (const ops of choices(door.needs)) {
      if (!door.past) return;
      expect(await outcome(door, { ops }, request)).toBe("PERMISSION_DENIED");
      expect(await outcome(door, { ops: [...ops, ...PAST_NEED] }, request)).toBe("done");
    }
  });
});

describe("an admin of an app", () => {
  const ask = async (call: string, request: object): Promise<string> => {
    const door = TOKEN_DOORS.find((each) => each.call === call) as TokenDoor;
    return outcome(door, { ops: ["admin"], wholeApp: true }, request);
  };

  test("changes its labels, and not its name, which others may want", async () => {
    expect(await ask("catalogue.updateApp", { app: APP, labels: { a: "b" } })).toBe("done");
    expect(await ask("catalogue.updateApp", { app: APP, name: "prod" })).toBe("PERMISSION_DENIED");
  });

  test("backs it up where it is backed up already, and nowhere else", async () => {
    expect(await ask("backups.enableBackup", { app: APP, repository: "main" })).toBe("done");
    expect(await ask("backups.enableBackup", { app: APP, repository: "other" })).toBe("PERMISSION_DENIED");
  });

  test("takes back its own token and those made with it, and no others", async () => {
    const other = fixture.tokens.list().at(-1)?.claims.jti;
    const bearer = await fixture.token({ ops: ["admin"], wholeApp: true, lifetimeMs: 360_000_000 });
    const revoke = (request: object): Promise<unknown> =>
      held.tokens.revokeTokens(request as never, { peer: LOCAL_PEER, bearer } as never);
    for (const request of [
      { kind: "id", id: other },
      { kind: "id", id: "" },
      { kind: "id", id: "ab" },
      { kind: "app", app: APP },
      { kind: "all" },
    ])
      await expect(revoke(request)).rejects.toMatchObject({ code: "PERMISSION_DENIED" });
  });

  test("speaks for its app and not for the machine, whose clock is that of all apps", async () => {
    expect(await ask("retention.setRetention", { app: APP, policy: {} })).toBe("done");
    expect(done?.underToken).toBe(true);
  });
});
