import { describe, expect, test } from "vitest";
import { formatBlobAddress, parseBlobAddress } from "./blob-address.ts";

describe("addresses", () => {
  test.each([
    ["s3://bucket", { kind: "s3", bucket: "bucket", prefix: "" }, "s3://bucket"],
    ["S3://bucket/", { kind: "s3", bucket: "bucket", prefix: "" }, "s3://bucket"],
    ["s3://my.bucket-1/a/b/", { kind: "s3", bucket: "my.bucket-1", prefix: "a/b" }, "s3://my.bucket-1/a/b"],
    ["/backup/dir", { kind: "directory", path: "/backup/dir" }, "/backup/dir"],
    ["/backup//dir/../x/", { kind: "directory", path: "/backup/x" }, "/backup/x"],
    ["file:///backup/my%20dir", { kind: "directory", path: "/backup/my dir" }, "/backup/my dir"],
    ["./dir", { kind: "directory", path: "/base/dir" }, "/base/dir"],
    ["dir", { kind: "directory", path: "/base/dir" }, "/base/dir"],
  ] as const)("%s is read, and written in one way", (text, address, written) => {
    expect(parseBlobAddress(text, { baseFolder: "/base" })).toEqual(address);
    expect(formatBlobAddress(address)).toBe(written);
    expect(parseBlobAddress(written)).toEqual(address);
  });

  test.each([
    ["", "empty"],
    ["s3:bucket", "3 to 63"],
    ["s3://", "3 to 63"],
    ["s3://Bucket", "3 to 63"],
    ["s3://ab", "3 to 63"],
    ["s3://key:secret@bucket/x", "keys and ports"],
    ["s3://bucket:9000/x", "keys and ports"],
    ["s3://bucket/a//b", "prefix"],
    ["s3://bucket/../b", "prefix"],
    ["s3://bucket/a b", "prefix"],
    ["s3://bucket/a?region=x", "options"],
    ["gs://bucket", "gs:"],
    ["https://host/bucket", "endpoint"],
    ["file://host/dir", "three slashes"],
    ["file:dir", "three slashes"],
    ["relative/dir", "slash"],
    ["/a\0b", "empty"],
  ])("%j is refused, saying what is expected", (text, words) => {
    const read = () => parseBlobAddress(text);
    expect(read).toThrow(expect.objectContaining({ code: "BLOB_INVALID" }));
    expect(read).toThrow(words);
  });

  test("keys in an address are not repeated in the message", () => {
    expect(() => parseBlobAddress("s3://AKIA:topsecret@bucket/x")).toThrow(
      expect.not.objectContaining({ message: expect.stringContaining("topsecret") }),
    );
  });
});
