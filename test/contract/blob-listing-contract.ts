import { expect, test } from "vitest";
import { body, type Current, entriesOf, namesOf } from "./blob-contract.ts";

/** More than a page of any store has. */
const MANY = 1_050;

/** What every listing must do. */
export function describeListing({ blobs, fixture }: Current): void {
  const putAll = async (names: readonly string[]): Promise<void> => {
    for (let at = 0; at < names.length; at += 16)
      await Promise.all(names.slice(at, at + 16).map((name) => blobs().put(name, body(name))));
  };

  test("an empty store lists nothing, whatever the prefix", async () => {
    expect(await entriesOf(blobs().list(""))).toEqual([]);
    expect(await entriesOf(blobs().list("apps/"))).toEqual([]);
    expect(await entriesOf(blobs().list("apps/x/packs/", { after: "apps/x/packs/1" }))).toEqual([]);
  });

  test("names are ordered by their bytes, folders among files", async () => {
    // "-" and "." sort before "/", digits and letters behind it.
    const names = ["Z", "a-b/c", "a.b", "a/1", "a/B/x", "a/b", "a0", "ab/a", "b"];
    await putAll([...names].reverse());
    expect(await namesOf(blobs().list(""))).toEqual([...names].sort());
  });

  test("a prefix is any text, not only a folder", async () => {
    await putAll(["a/1", "a/10", "a/2", "ab", "b/a/1", "a-1"]);
    expect(await namesOf(blobs().list("a"))).toEqual(["a-1", "a/1", "a/10", "a/2", "ab"]);
    expect(await namesOf(blobs().list("a/"))).toEqual(["a/1", "a/10", "a/2"]);
    expect(await namesOf(blobs().list("a/1"))).toEqual(["a/1", "a/10"]);
    expect(await namesOf(blobs().list("b/a"))).toEqual(["b/a/1"]);
    expect(await namesOf(blobs().list("a/3"))).toEqual([]);
    expect(await namesOf(blobs().list("ab/"))).toEqual([]);
  });

  test("`after` begins behind a name, there or not, inside of a folder or between two", async () => {
    const names = ["a/1", "a/2", "a/3", "b", "c/1/x", "c/2/x"];
    await putAll(names);
    for (const after of [...names, "a", "a/0", "a/25", "a/9", "b/b", "c/1", "c/1/y", "d", "A"])
      expect(await namesOf(blobs().list("", { after }))).toEqual(names.filter((name) => name > after));
    expect(await namesOf(blobs().list("c/", { after: "c/1/x" }))).toEqual(["c/2/x"]);
    expect(await namesOf(blobs().list("c/", { after: "a/1" }))).toEqual(["c/1/x", "c/2/x"]);
    expect(await namesOf(blobs().list("a/", { after: "b" }))).toEqual([]);
  });

  test("entries tell sizes and times, as stat does", async () => {
    await putAll(["a/1", "a/long-name"]);
    const entries = await entriesOf(blobs().list("a/"));
    expect(entries.map(({ bytes }) => bytes)).toEqual([3, 11]);
    for (const { name, bytes, modifiedMs } of entries) {
      const found = await blobs().stat(name);
      expect(found?.bytes).toBe(bytes);
      expect(Math.floor((found?.modifiedMs ?? 0) / 1000)).toBe(Math.floor(modifiedMs / 1000));
    }
  });

  test(`${MANY} names come in pages, and from the middle on`, { timeout: 120_000 }, async () => {
    const names = Array.from({ length: MANY }, (_, index) => `p/${(index * 7919) % MANY}`.padEnd(4, "x"));
    await putAll(names);
    const sorted = [...names].sort();
    expect(await namesOf(blobs().list(""))).toEqual(sorted);
    expect(await namesOf(blobs().list("p/", { after: sorted[1_020] ?? "" }))).toEqual(sorted.slice(1_021));
    await blobs().delete(names);
    expect(await namesOf(blobs().list(""))).toEqual([]);
  });

  test("blobs that come and go meanwhile leave the others in the list", async () => {
    const names = Array.from({ length: 60 }, (_, index) => `s/${String(index).padStart(3, "0")}`);
    await putAll(names);
    const other = await fixture().open();
    const pages = blobs().list("");
    const listing = namesOf(pages);
    await Promise.all([other.delete(["s/010", "s/040"]), other.put("s/0005", body("new"))]);
    const listed = new Set(await listing);
    for (const name of names) if (name !== "s/010" && name !== "s/040") expect(listed).toContain(name);
    await other.close();
  });
}
