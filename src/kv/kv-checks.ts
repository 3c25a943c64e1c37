import { assert } from "../base/assert.ts";
import type { KvOperation, KvRange } from "./kv-store.ts";
import { KV_BATCH_BYTES_MAX, KV_KEY_BYTES_MAX, KV_READ_ROWS_MAX, KV_VALUE_BYTES_MAX } from "./kv-store.ts";

/** Asserts that `key` can be a key. Also keeps other types away from the native code, which would not survive some of them. */
export function checkKey(key: Uint8Array): void {
  assert(key instanceof Uint8Array, "key is not a byte array");
  assert(key.length > 0, "key is empty");
  assert(key.length <= KV_KEY_BYTES_MAX, "key is longer than KV_KEY_BYTES_MAX");
}

/** Asserts that `keys` can be read in one call. */
export function checkKeys(keys: readonly Uint8Array[]): void {
  assert(keys.length <= KV_READ_ROWS_MAX, "more keys than KV_READ_ROWS_MAX");
  for (const key of keys) checkKey(key);
}

/** Asserts that `range` is a range. Bounds may be empty and may be longer than a key. */
export function checkRange(range: KvRange): void {
  checkBound(range.gte);
  checkBound(range.gt);
  checkBound(range.lt);
  checkBound(range.lte);
  assert(range.gte === undefined || range.gt === undefined, "range has both gte and gt");
  assert(range.lt === undefined || range.lte === undefined, "range has both lt and lte");
  assert(
    Number.isInteger(range.limit) && range.limit >= 1 && range.limit <= KV_READ_ROWS_MAX,
    "range limit is out of bounds",
  );
  assert(
    range.bytesMax === undefined || (Number.isInteger(range.bytesMax) && range.bytesMax >= 1),
    "range bytesMax is out of bounds",
  );
}

/** Asserts that `operations` can be one batch. */
export function checkBatch(operations: readonly KvOperation[]): void {
  let bytes = 0;
  for (const operation of operations) {
    checkKey(operation.key);
    bytes += operation.key.length;
    if (operation.type === "del") continue;
    assert(operation.value instanceof Uint8Array, "value is not a byte array");
    assert(operation.value.length <= KV_VALUE_BYTES_MAX, "value is longer than KV_VALUE_BYTES_MAX");
    bytes += operation.value.length;
  }
  assert(bytes <= KV_BATCH_BYTES_MAX, "batch is larger than KV_BATCH_BYTES_MAX");
}

function checkBound(bound: Uint8Array | undefined): void {
  assert(bound === undefined || bound instanceof Uint8Array, "range bound is not a byte array");
}
