import type { GetObjectCommandOutput } from "@aws-sdk/client-s3";
import { expect, test } from "vitest";
import { bodySlice, parseContentRange, readBody } from "./s3-body.ts";

const parts = ["abc", "", "d", "efgh"].map((text) => Buffer.from(text));

test("a slice of a body is that of its parts joined, wherever it begins and ends", () => {
  const whole = Buffer.concat(parts);
  for (let from = 0; from <= whole.length; from += 1)
    for (let to = from; to <= whole.length; to += 1)
      expect(bodySlice(parts, from, to)).toEqual(whole.subarray(from, to));
  expect(bodySlice([], 0, 0)).toEqual(Buffer.alloc(0));
});

test("a slice of one part is not copied", () => {
  expect(bodySlice(parts, 5, 7).buffer).toBe(parts[3]?.buffer);
});

test("an answer that ends early or late, without an error of its own, is one", async () => {
  const answer = (): GetObjectCommandOutput =>
    ({
      Body: (async function* () {
        yield* parts;
      })(),
    }) as unknown as GetObjectCommandOutput;
  expect(String(await readBody(answer(), 8, "x"))).toBe("abcdefgh");
  await expect(readBody(answer(), 9, "x")).rejects.toMatchObject({ code: "BLOB_UNREACHABLE", retryable: true });
  await expect(readBody(answer(), 7, "x")).rejects.toMatchObject({ code: "BLOB_DAMAGED" });
});

test.each([
  ["bytes 0-0/1", { from: 0, to: 1, bytes: 1 }],
  ["bytes 5-9/100", { from: 5, to: 10, bytes: 100 }],
  ["bytes 5-9/*", undefined],
  ["bytes */100", undefined],
  ["items 5-9/100", undefined],
  [undefined, undefined],
])("the content range %j is read or refused", (text, expected) => {
  expect(parseContentRange(text)).toEqual(expected);
});
