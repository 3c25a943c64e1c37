import { create } from "@bufbuild/protobuf";
import { afterEach, beforeEach, expect, test } from "vitest";
import { silentLog } from "../../base/log.ts";
import { ManualTimers } from "../../base/timers.ts";
import { Changes } from "../../meta/reading/changes.ts";
import { LOCAL_PEER, TokenFixture, type Wanted } from "../../meta/tokens/test-tokens.ts";
import {
  ChangesRequestSchema,
  type ChangesResponse,
  ShareDeltaRequestSchema,
} from "../../rpc/gen/tidemark/v1/changes_pb.ts";
import { NetworkChanges } from "./network-changes.ts";

let fixture: TokenFixture;
let handlers: NetworkChanges["handlers"];

beforeEach(async () => {
  fixture = await TokenFixture.open();
  const { apps, app, tokens, audit } = fixture;
  const changes = new Changes({ ...apps.parts, timers: new ManualTimers() });
  handlers = new NetworkChanges({ service: { find: () => app.app }, changes, tokens, audit, log: silentLog }).handlers;
  app.mkdir(fixture.root, "a");
  app.put(fixture.root, "a/seen", "1");
  app.put(fixture.root, "secret", "1");
  await app.settle();
});

afterEach(() => fixture.close());

const PATH = { app: { namespace: "default", name: "shop" }, share: { name: "files" } };

/** The pages of a feed that a caller with `bearer` gets. */
function feed(
  bearer: string | undefined,
  { follow = false, signal = new AbortController().signal }: { follow?: boolean; signal?: AbortSignal } = {},
): AsyncIterator<unknown> {
  const request = create(ChangesRequestSchema, { path: PATH, follow });
  const options = { signal, peer: LOCAL_PEER, ...(bearer === undefined ? {} : { bearer }) };
  return handlers.changes(request, options)[Symbol.asyncIterator]();
}

async function token(wanted: Partial<Wanted> = {}): Promise<string> {
  return fixture.token({ ops: ["history"], ...wanted });
}

test("without a token, with one that is none, or that does not allow history, nothing is told, and the refusals are in the audit log", async () => {
  await expect(feed(undefined).next()).rejects.toMatchObject({ code: "PERMISSION_DENIED" });
  await expect(feed("a.b.c").next()).rejects.toMatchObject({ code: "PERMISSION_DENIED" });
  const other = await token({ ops: ["read", "list", "write"] });
  await expect(feed(other).next()).rejects.toMatchObject({
    code: "PERMISSION_DENIED",
    message: expect.stringContaining("history") as string,
  });
  const delta = create(ShareDeltaRequestSchema, {
    path: PATH,
    from: { moment: { case: "lsn", value: 1n } },
    to: { moment: { case: "now", value: {} } },
  });
  const pages = handlers.shareDelta(delta, { signal: new AbortController().signal, peer: LOCAL_PEER, bearer: other });
  await expect(pages[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code: "PERMISSION_DENIED" });
  const refused = (await fixture.audited()).filter(({ kind }) => kind === "refused");
  expect(refused.map(({ why }) => why).join("; ")).toContain("history");
  expect(JSON.stringify(refused)).not.toContain(other);
});

test("a token for a directory sees only what is below it; one request can't widen that", async () => {
  const { ino } = fixture.app.at(fixture.root, "a");
  const page = (await feed(await token({ root: ino })).next()).value as ChangesResponse;
  expect(page.records.map(({ op }) => op)).toEqual(["CREATE", "WRITE"]);
  expect(page.records.flatMap(({ paths }) => (paths as unknown as Buffer[]).map(String))).toEqual(["seen", "seen"]);
});

test("a malformed request is refused as such, also before the token is looked at", async () => {
  const request = create(ChangesRequestSchema, {});
  const pages = handlers.changes(request, { signal: new AbortController().signal, peer: LOCAL_PEER });
  await expect(pages[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
});

test("a call ends when its token expires, and says so", async () => {
  const pages = feed(await token({ lifetimeMs: 60_000 }), { follow: true });
  await pages.next();
  const next = pages.next();
  fixture.apps.clock.step(61_000_000_000);
  fixture.timers.advance(2_000);
  await expect(next).rejects.toMatchObject({
    code: "PERMISSION_DENIED",
    message: expect.stringContaining("expired") as string,
  });
});

test("one token has some calls at a time, not all; a call that ends makes room", async () => {
  const one = await token();
  const running: { pages: AsyncIterator<unknown>; abort: AbortController }[] = [];
  const start = async (bearer: string): Promise<void> => {
    const abort = new AbortController();
    const pages = feed(bearer, { follow: true, signal: abort.signal });
    await pages.next();
    running.push({ pages, abort });
  };
  for (let count = 0; count < 8; count++) await start(one);
  await expect(start(one)).rejects.toMatchObject({ code: "UNAVAILABLE" });
  for (let other = 0; other < 3; other++) {
    const bearer = await token();
    for (let count = 0; count < 8; count++) await start(bearer);
  }
  await expect(start(await token())).rejects.toMatchObject({ code: "UNAVAILABLE" });
  for (const { pages, abort } of running.splice(0, 1)) {
    abort.abort();
    await pages.return?.();
  }
  await start(one);
  for (const { pages, abort } of running) {
    abort.abort();
    await pages.return?.();
  }
});
