import { afterEach, beforeEach, expect, test } from "vitest";
import { silentLog } from "../base/log.ts";
import { SystemTimers } from "../base/timers.ts";
import type { BlobEntry, BlobListOptions } from "./blob-store.ts";
import { S3VersionView } from "./s3-version-view.ts";
import { type S3Answer, ScriptedS3, s3Fault, s3Xml, testSettings } from "./testing/scripted-s3.ts";

/** The hour of the day that something happened at. */
type Happened = { readonly key: string; readonly hour: number; readonly id: string; readonly deleted?: true };

const timeOf = (hour: number): string => `2026-01-01T${String(hour).padStart(2, "0")}:00:00.000Z`;
const made = (key: string, hour: number, id = `${key}-${hour}`): Happened => ({ key, hour, id });
const deleted = (key: string, hour: number): Happened => ({ key, hour, id: `${key}-x${hour}`, deleted: true });

let server: ScriptedS3;
const views: S3VersionView[] = [];

beforeEach(async () => {
  server = await ScriptedS3.start();
});
afterEach(async () => {
  for (const view of views.splice(0)) await view.close();
  await server[Symbol.asyncDispose]();
});

function at(hour: number): S3VersionView {
  const deps = { timers: new SystemTimers(), random: () => 0, log: silentLog };
  const view = new S3VersionView(testSettings(`http://${server.host}`), deps, Date.parse(timeOf(hour)));
  views.push(view);
  return view;
}

async function entriesOf(view: S3VersionView, prefix = "", options: BlobListOptions = {}): Promise<BlobEntry[]> {
  const entries: BlobEntry[] = [];
  for await (const page of view.list(prefix, options)) entries.push(...page);
  return entries;
}

/** A page as Amazon writes it: versions and markers of each key, the newest first. */
function page(happened: readonly Happened[], next?: { key: string; id: string }): S3Answer {
  const entries = happened.map(({ key, hour, id, deleted: isMarker }) => {
    const inside = `<Key>pre/${key}</Key><VersionId>${id}</VersionId><LastModified>${timeOf(hour)}</LastModified>`;
    return isMarker === true
      ? `<DeleteMarker>${inside}</DeleteMarker>`
      : `<Version>${inside}<Size>${hour}</Size></Version>`;
  });
  const more =
    next === undefined
      ? "<IsTruncated>false</IsTruncated>"
      : `<IsTruncated>true</IsTruncated><NextKeyMarker>pre/${next.key}</NextKeyMarker><NextVersionIdMarker>${next.id}</NextVersionIdMarker>`;
  return s3Xml(`<ListVersionsResult>${more}${entries.join("")}</ListVersionsResult>`);
}

const HISTORY = [
  made("a", 4),
  made("a", 2),
  deleted("b", 5),
  made("b", 2),
  made("c", 8),
  deleted("c", 5),
  made("c", 1),
  made("d", 7),
];

test.each([
  [0, []],
  [1, ["c 1"]],
  [2, ["a 2", "b 2", "c 1"]],
  [4, ["a 4", "b 2", "c 1"]],
  [5, ["a 4"]],
  [9, ["a 4", "c 8", "d 7"]],
])("at %i o'clock it shows what was current then", async (hour, expected) => {
  server.answer = () => page(HISTORY);
  const entries = await entriesOf(at(hour));
  expect(entries.map(({ name, bytes }) => `${name} ${bytes}`)).toEqual(expected);
  for (const { bytes, modifiedMs } of entries) expect(modifiedMs).toBe(Date.parse(timeOf(bytes)));
});

test("of one second, a version counts and not the marker", async () => {
  server.answer = () => page([deleted("a", 3), made("a", 3), made("b", 3), made("b", 3, "older")]);
  const view = at(3);
  expect((await entriesOf(view)).map(({ name }) => name)).toEqual(["a", "b"]);
});

test("a key's versions may go on in the next page", async () => {
  const first = { key: "b", id: "b-x5" };
  server.answer = ({ query }) => (query.has("key-marker") ? page(HISTORY.slice(3)) : page(HISTORY.slice(0, 3), first));
  expect((await entriesOf(at(4))).map(({ name }) => name)).toEqual(["a", "b", "c"]);
  const second = server.requests[1]?.query;
  expect([second?.get("key-marker"), second?.get("version-id-marker")]).toEqual(["pre/b", "b-x5"]);
});

test("reading asks for the version, after a listing without looking again", async () => {
  const body: S3Answer = { status: 200, headers: { "content-length": "2" }, body: "ab" };
  server.answer = ({ query }) => (query.has("versions") ? page(HISTORY) : body);
  const view = at(2);
  expect(String(await view.get("a"))).toBe("ab");
  expect(server.requests.map(({ query }) => query.get("versionId"))).toEqual([null, "a-2"]);
  expect(server.requests[0]?.query.get("prefix")).toBe("pre/a");
  await entriesOf(view);
  server.requests.length = 0;
  await view.get("b");
  expect(server.requests.map(({ query }) => query.get("versionId"))).toEqual(["b-2"]);
  await expect(view.get("e")).rejects.toMatchObject({ code: "BLOB_MISSING" });
  expect(await view.stat("d")).toBeUndefined();
});

test("a listing behind a name tells the store so, and shows nothing before", async () => {
  server.answer = () => page(HISTORY);
  expect((await entriesOf(at(9), "", { after: "a" })).map(({ name }) => name)).toEqual(["c", "d"]);
  expect(server.requests[0]?.query.get("key-marker")).toBe("pre/a");
});

test.each([
  ["keys out of order", [page([made("b", 1)], { key: "b", id: "1" }), page([made("a", 1)])]],
  ["more, but not where", [s3Xml("<ListVersionsResult><IsTruncated>true</IsTruncated></ListVersionsResult>")]],
  [
    "the same place for ever",
    [page([made("a", 1)], { key: "a", id: "1" }), page([made("b", 1)], { key: "a", id: "1" })],
  ],
])("%s is BLOB_IO, not a list that is short", async (_, pages) => {
  server.answer = (_request, index) => pages[index] ?? page([]);
  await expect(entriesOf(at(9))).rejects.toMatchObject({ code: "BLOB_IO" });
});

test("a page that fails half-way throws", async () => {
  server.answer = (_, index) => (index === 0 ? page(HISTORY, { key: "d", id: "d-7" }) : s3Fault(403, "AccessDenied"));
  await expect(entriesOf(at(9))).rejects.toMatchObject({ code: "BLOB_DENIED" });
});
