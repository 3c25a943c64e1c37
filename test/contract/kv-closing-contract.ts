import { expect, test } from "vitest";
import { KvError } from "../../src/kv/kv-error.ts";
import type { KvOperation, KvStore } from "../../src/kv/kv-store.ts";

const bytes = (text: string): Buffer => Buffer.from(text, "latin1");
const put = (key: string, value: string): KvOperation => ({ type: "put", key: bytes(key), value: bytes(value) });
const del = (key: string): KvOperation => ({ type: "del", key: bytes(key) });

/** The part of the contract that is about closing and opening again. */
export function describeClosing(store: () => KvStore, reopen: () => Promise<KvStore>): void {
  test("closing twice, at once or later, succeeds", async () => {
    const kv = store();
    await kv.batch([put("a", "1")]);
    await Promise.all([kv.close(), kv.close()]);
    await kv.close();
  });

  test("after close every call fails with KV_CLOSED", async () => {
    const kv = store();
    await kv.batch([put("a", "1")]);
    const closing = kv.close();
    const closed = { code: "KV_CLOSED" satisfies KvError["code"] };
    const calls = [
      () => kv.getSync(bytes("a")),
      () => kv.getManySync([bytes("a")]),
      () => kv.rangeSync({ limit: 1 }),
      () => kv.statistics(),
      () => kv.share(),
    ];
    for (const when of ["while closing", "when closed"]) {
      for (const call of calls) expect(call, when).toThrow(expect.objectContaining(closed));
      await expect(kv.batch([put("b", "1")]), when).rejects.toMatchObject(closed);
      await expect(kv.sync(), when).rejects.toMatchObject(closed);
      await expect(kv.deleteRange({ gte: bytes("a"), lt: bytes("b") }), when).rejects.toBeInstanceOf(KvError);
      await closing;
    }
  });

  test("close with batches under way: each is there whole or was refused", async () => {
    const kv = store();
    const batches = Array.from({ length: 50 }, (_, index) => kv.batch([put(`a${index}`, "1"), put(`b${index}`, "1")]));
    const closing = kv.close();
    const late = kv.batch([put("late", "1")]);
    const results = await Promise.allSettled(batches);
    await expect(late).rejects.toMatchObject({ code: "KV_CLOSED" });
    await closing;
    const again = await reopen();
    const expected = again.capabilities.persistent
      ? results.filter((result) => result.status === "fulfilled").length * 2
      : 0;
    expect(again.rangeSync({ limit: 1000 })).toHaveLength(expected);
  });

  test("opened again, a persistent store has its rows and another is empty", async () => {
    const kv = store();
    await kv.batch(Array.from({ length: 1000 }, (_, index) => put(`k${index}`, `v${index}`)));
    await kv.batch([del("k7")]);
    await kv.deleteRange({ gte: bytes("k90"), lt: bytes("k91") });
    const before = kv.rangeSync({ limit: 1000 });
    await kv.close();
    const again = await reopen();
    expect(again.rangeSync({ limit: 1000 })).toEqual(again.capabilities.persistent ? before : []);
  });
}
