/**
 * What every blob store and every wrapper must do. A store runs it in two lines: `blobContract("MyBlobs", () => myFixture())`.
 * Random tests print their seed when they fail and take another from the variable SEED.
 */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { isBlobError } from "../../src/blob/blob-error.ts";
import type { BlobCapabilities, BlobEntry, BlobStore } from "../../src/blob/blob-store.ts";
import { describeListing } from "./blob-listing-contract.ts";

/** One store under test. `open` opens the same store again. */
export interface BlobFixture {
  open(): Promise<BlobStore>;
  dispose(): Promise<void>;
  /** What the store must say of itself. */
  readonly capabilities: BlobCapabilities;
  /** Whether locks work. Default: what the capabilities say; a bucket may have them switched off. */
  readonly locks?: boolean;
  /** Whether a locked blob can be deleted: a versioned bucket only hides it. Default: no. */
  readonly hidesLocked?: boolean;
  /** Names that were deleted can't be used again, nor names of folders deleted: the test server's versioned buckets can't (Amazon's can). */
  readonly burnsNames?: boolean;
  /** Bytes of a body that is large for the store. Default: 3 MiB. */
  readonly largeBytes?: number;
}

/** The parts of a body with these texts. */
export const body = (...texts: readonly string[]): Buffer[] => texts.map((text) => Buffer.from(text, "latin1"));

/** All entries of a listing. */
export async function entriesOf(pages: AsyncIterable<readonly BlobEntry[]>): Promise<BlobEntry[]> {
  const entries: BlobEntry[] = [];
  for await (const page of pages) {
    expect(page.length).toBeGreaterThan(0);
    entries.push(...page);
  }
  return entries;
}

/** The names of a listing. */
export async function namesOf(pages: AsyncIterable<readonly BlobEntry[]>): Promise<string[]> {
  return (await entriesOf(pages)).map(({ name }) => name);
}

/** The code a call fails with. */
export async function codeOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
  } catch (error) {
    if (!isBlobError(error)) throw error;
    return error.code;
  }
  return "no error";
}

export function blobContract(name: string, makeFixture: () => Promise<BlobFixture>): void {
  describe(`${name} keeps the contract of BlobStore`, () => {
    let fixture: BlobFixture;
    let blobs: BlobStore;

    beforeEach(async () => {
      fixture = await makeFixture();
      blobs = await fixture.open();
    });

    afterEach(async () => {
      await blobs.close();
      await fixture.dispose();
    });

    const current = { blobs: () => blobs, fixture: () => fixture };
    describeBodies(current);
    describe("of ranges", () => describeRanges(current));
    describeCreating(current);
    describeListing(current);
    describeDeleting(current);
    describeLocks(current);
    describeCalls(current);
  });
}

/** The store of the test that runs. */
export type Current = { readonly blobs: () => BlobStore; readonly fixture: () => BlobFixture };

function describeBodies({ blobs, fixture }: Current): void {
  test("a blob is its parts in order, also for who opens the store later", async () => {
    await blobs().put("keys/one", body("ab", "", "c", "def"));
    expect(await blobs().get("keys/one")).toEqual(Buffer.from("abcdef"));
    const again = await fixture().open();
    expect(await again.get("keys/one")).toEqual(Buffer.from("abcdef"));
    await again.close();
  });

  test("a blob may be empty, of no parts or of empty ones", async () => {
    await blobs().put("empty", []);
    await blobs().put("hollow", body("", ""));
    expect(await blobs().get("empty")).toEqual(Buffer.alloc(0));
    expect(await blobs().get("hollow")).toEqual(Buffer.alloc(0));
    expect((await blobs().stat("empty"))?.bytes).toBe(0);
  });

  test("a large blob of many parts comes back byte for byte", async () => {
    const bytes = Buffer.alloc(fixture().largeBytes ?? 3 * 1024 * 1024);
    for (let at = 0; at + 4 <= bytes.length; at += 4) bytes.writeUInt32LE(Math.imul(at, 0x9e3779b1) >>> 0, at);
    const parts: Buffer[] = [];
    for (let at = 0; at < bytes.length; at += 4_001) parts.push(bytes.subarray(at, at + 4_001));
    await blobs().put("apps/x/packs/aa/large", parts);
    const read = await blobs().get("apps/x/packs/aa/large");
    expect(read.equals(bytes)).toBe(true);
    const part = await blobs().get("apps/x/packs/aa/large", { from: bytes.length - 5_000, length: 4_999 });
    expect(part.equals(bytes.subarray(-5_000, -1))).toBe(true);
  });

  test("what a reader does to its buffer, or a writer to its own after the put, changes nothing", async () => {
    const [part = Buffer.alloc(0)] = body("abc");
    await blobs().put("a", [part]);
    part.fill("x");
    (await blobs().get("a")).fill("y");
    expect(await blobs().get("a")).toEqual(Buffer.from("abc"));
  });

  test("stat tells size and age by the store's clock; of an absent name nothing", async () => {
    await blobs().put("a/b", body("12345"));
    const nowMs = await blobs().timeMs();
    const found = await blobs().stat("a/b");
    expect(found?.bytes).toBe(5);
    // Clocks of stores have seconds, and this may take some.
    expect(Math.abs((found?.modifiedMs ?? 0) - nowMs)).toBeLessThan(60_000);
    expect(await blobs().stat("a/c")).toBeUndefined();
    expect(await blobs().stat("a/b/c")).toBeUndefined();
    expect(await blobs().stat("a")).toBeUndefined();
  });
}

function describeRanges({ blobs }: Current): void {
  beforeEach(async () => blobs().put("digits", body("01234", "56789")));

  test("a range is exactly the bytes asked for", async () => {
    expect(String(await blobs().get("digits", { from: 0, length: 1 }))).toBe("0");
    expect(String(await blobs().get("digits", { from: 3, length: 4 }))).toBe("3456");
    expect(String(await blobs().get("digits", { from: 9, length: 1 }))).toBe("9");
    expect(String(await blobs().get("digits", { length: 2 }))).toBe("01");
    expect(String(await blobs().get("digits", { length: 10 }))).toBe("0123456789");
    expect(String(await blobs().get("digits", { from: 7 }))).toBe("789");
    expect(String(await blobs().get("digits", { from: 10 }))).toBe("");
  });

  test("a range that goes past the end is an error, never a shorter answer", async () => {
    expect(await codeOf(blobs().get("digits", { from: 5, length: 6 }))).toBe("BLOB_DAMAGED");
    expect(await codeOf(blobs().get("digits", { from: 10, length: 1 }))).toBe("BLOB_DAMAGED");
    expect(await codeOf(blobs().get("digits", { from: 50, length: 1 }))).toBe("BLOB_DAMAGED");
    expect(await codeOf(blobs().get("digits", { from: 11 }))).toBe("BLOB_DAMAGED");
  });

  test("more bytes than the reader takes are an error", async () => {
    expect(String(await blobs().get("digits", { bytesMax: 10 }))).toBe("0123456789");
    expect(await codeOf(blobs().get("digits", { bytesMax: 9 }))).toBe("BLOB_DAMAGED");
    expect(String(await blobs().get("digits", { from: 8, bytesMax: 2 }))).toBe("89");
    expect(await codeOf(blobs().get("digits", { from: 7, bytesMax: 2 }))).toBe("BLOB_DAMAGED");
  });

  test("an absent name is BLOB_MISSING, with and without a range", async () => {
    expect(await codeOf(blobs().get("digit"))).toBe("BLOB_MISSING");
    expect(await codeOf(blobs().get("digit", { from: 1, length: 1 }))).toBe("BLOB_MISSING");
    expect(await codeOf(blobs().get("digits/0"))).toBe("BLOB_MISSING");
  });
}

function describeCreating({ blobs, fixture }: Current): void {
  test("says what the store can", () => {
    expect(blobs().capabilities).toEqual(fixture().capabilities);
    expect(blobs().description).not.toBe("");
  });

  test("a name that is there is refused and keeps its bytes", async () => {
    await blobs().put("a", body("first"));
    expect(await codeOf(blobs().put("a", body("second")))).toBe("BLOB_EXISTS");
    expect(await codeOf(blobs().put("a", body("first")))).toBe("BLOB_EXISTS");
    expect(String(await blobs().get("a"))).toBe("first");
  });

  test("of many puts of one name at a time, one succeeds and the others are refused", async () => {
    const others = await Promise.all([fixture().open(), fixture().open()]);
    const stores = [blobs(), ...others];
    const writers = Array.from({ length: 12 }, (_, index) => ({ index, store: stores[index % stores.length] }));
    const codes = await Promise.all(
      writers.map(({ index, store }) => codeOf(store?.put("epochs/1", body(`writer ${index}`)) ?? Promise.resolve())),
    );
    expect(codes.filter((code) => code === "no error")).toHaveLength(1);
    expect(codes.filter((code) => code === "BLOB_EXISTS")).toHaveLength(11);
    expect(String(await blobs().get("epochs/1"))).toBe(`writer ${codes.indexOf("no error")}`);
    for (const other of others) await other.close();
  });

  test.each(["", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/.hidden", "a b", "a\0b", "ä", "a\\b", "a?b"])(
    "%j is no name",
    (name) => expectInvalid(name),
  );

  test("a name that is too long, or has a part that is, is none", async () => {
    await expectInvalid("x".repeat(201));
    await expectInvalid(`${"a/".repeat(260)}a`);
  });

  const expectInvalid = async (name: string): Promise<void> => {
    expect(await codeOf(blobs().put(name, body("x")))).toBe("BLOB_INVALID");
    expect(await codeOf(blobs().get(name))).toBe("BLOB_INVALID");
    expect(await codeOf(blobs().stat(name))).toBe("BLOB_INVALID");
    expect(await codeOf(blobs().delete([name]))).toBe("BLOB_INVALID");
    expect(await namesOf(blobs().list(""))).toEqual([]);
  };
}

function describeDeleting({ blobs, fixture }: Current): void {
  test("deleted blobs are gone and their names free; absent ones are fine", async () => {
    for (const name of ["a/1", "a/2", "b"]) await blobs().put(name, body(name));
    await blobs().delete(["a/1", "absent", "a/absent", "absent/a", "b"]);
    expect(await namesOf(blobs().list(""))).toEqual(["a/2"]);
    expect(await codeOf(blobs().get("a/1"))).toBe("BLOB_MISSING");
    expect(await blobs().stat("b")).toBeUndefined();
    if (fixture().burnsNames !== true) {
      await blobs().put("a/1", body("new"));
      expect(String(await blobs().get("a/1"))).toBe("new");
      await blobs().delete(["a/1"]);
    }
    await blobs().delete(["a/1"]);
    await blobs().delete([]);
    expect(await namesOf(blobs().list(""))).toEqual(["a/2"]);
  });

  test("a folder of blobs is not deleted by its name", async () => {
    await blobs().put("a/b/c", body("x"));
    if (fixture().burnsNames !== true) await blobs().delete(["a", "a/b"]);
    expect(await namesOf(blobs().list(""))).toEqual(["a/b/c"]);
  });
}

function describeLocks({ blobs, fixture }: Current): void {
  const hourMs = 3_600_000;

  test("a lock holds and is extended but never shortened; or is refused", async () => {
    const untilMs = (await blobs().timeMs()) + hourMs;
    if (!(fixture().locks ?? fixture().capabilities.objectLock)) {
      expect(await codeOf(blobs().put("locked", body("x"), { lockUntilMs: untilMs }))).toBe("BLOB_UNSUPPORTED");
      // A server that has locks, but not for this bucket, may have written it before it looked.
      if (!fixture().capabilities.objectLock) expect(await blobs().stat("locked")).toBeUndefined();
      await blobs().put("free", body("x"));
      expect(await codeOf(blobs().extendLock("free", untilMs))).toBe("BLOB_UNSUPPORTED");
      return;
    }
    await blobs().put("locked", body("x"), { lockUntilMs: untilMs });
    expect(roundedToSeconds((await blobs().stat("locked"))?.lockedUntilMs)).toBe(roundedToSeconds(untilMs));
    await blobs().extendLock("locked", untilMs + hourMs);
    await blobs().extendLock("locked", untilMs);
    const lockedUntilMs = (await blobs().stat("locked"))?.lockedUntilMs;
    expect(roundedToSeconds(lockedUntilMs)).toBe(roundedToSeconds(untilMs + hourMs));
    expect(await codeOf(blobs().extendLock("absent", untilMs))).toBe("BLOB_MISSING");
    const deleting = await codeOf(blobs().delete(["locked"]));
    expect(deleting).toBe(fixture().hidesLocked === true ? "no error" : "BLOB_LOCKED");
  });

  const roundedToSeconds = (ms: number | undefined): number => Math.floor((ms ?? 0) / 1000);
}

function describeCalls({ blobs }: Current): void {
  test("a call whose signal was given before does nothing", async () => {
    const options = { signal: AbortSignal.abort() };
    await blobs().put("there", body("x"));
    expect(await codeOf(blobs().put("a", body("x"), options))).toBe("BLOB_ABORTED");
    expect(await codeOf(blobs().get("there", options))).toBe("BLOB_ABORTED");
    expect(await codeOf(blobs().stat("there", options))).toBe("BLOB_ABORTED");
    expect(await codeOf(blobs().delete(["there"], options))).toBe("BLOB_ABORTED");
    expect(await codeOf(blobs().timeMs(options))).toBe("BLOB_ABORTED");
    expect(await codeOf(namesOf(blobs().list("", options)))).toBe("BLOB_ABORTED");
    expect(await namesOf(blobs().list(""))).toEqual(["there"]);
  });

  test("after close every call is BLOB_ABORTED, and closing again is fine", async () => {
    await blobs().close();
    expect(await codeOf(blobs().put("a", body("x")))).toBe("BLOB_ABORTED");
    expect(await codeOf(blobs().get("a"))).toBe("BLOB_ABORTED");
    expect(await codeOf(blobs().stat("a"))).toBe("BLOB_ABORTED");
    expect(await codeOf(blobs().delete(["a"]))).toBe("BLOB_ABORTED");
    expect(await codeOf(blobs().timeMs())).toBe("BLOB_ABORTED");
    expect(await codeOf(namesOf(blobs().list("")))).toBe("BLOB_ABORTED");
    await blobs().close();
  });
}
