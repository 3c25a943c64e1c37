import { expect, test } from "vitest";
import { TidemarkError } from "./errors.ts";
import { formatSharePath, parseAppRef, parseSharePath } from "./share-path.ts";

const ID = "0123456789abcdef0123456789abcdef";

test("an app alone is in the default namespace", () => {
  expect(parseSharePath("shop")).toEqual({ app: { namespace: "default", name: "shop" }, path: Buffer.alloc(0) });
});

test("namespace, app, share and path are told apart", () => {
  expect(parseSharePath("prod:shop/uploads/a/b c.txt")).toEqual({
    app: { namespace: "prod", name: "shop" },
    share: { name: "uploads" },
    path: Buffer.from("a/b c.txt"),
  });
});

test("a deleted app and a deleted share are named with ids", () => {
  expect(parseSharePath(`shop@${ID}/uploads@0123ab/x`)).toEqual({
    app: { namespace: "default", name: "shop", id: ID },
    share: { name: "uploads", id: "0123ab" },
    path: Buffer.from("x"),
  });
});

test("colons and at signs are plain characters inside the path", () => {
  expect(parseSharePath("shop/uploads/a:b@c").path.toString()).toBe("a:b@c");
});

test("repeated and trailing slashes and single dots are dropped", () => {
  expect(parseSharePath("shop/uploads//a/./b/").path.toString()).toBe("a/b");
  expect(parseSharePath("shop/")).toEqual(parseSharePath("shop"));
});

test("escapes are bytes", () => {
  expect(parseSharePath("shop/uploads/a\\xff").path).toEqual(Buffer.from([0x61, 0xff]));
});

test.each(["shop", "prod:shop", "shop/uploads", "shop/uploads/a\\xff/\\x5cx41/ü", `prod:shop@${ID}/uploads@abcdef/x`])(
  "%s is written as it was read",
  (text) => {
    expect(formatSharePath(parseSharePath(text))).toBe(text);
  },
);

test.each([
  ["", "is empty"],
  ["/srv/x", 'starts with "/"'],
  ["shop//a", "is not a valid share name"],
  ["sh op", "is not a valid app name"],
  [":shop", "is not a valid namespace name"],
  ["shop/uploads/../x", "is not a file name"],
  [`shop/uploads/${"x".repeat(256)}`, "at most 255 bytes"],
  ["shop/uploads/a\\x00", "zero byte"],
  ["shop/uploads/a\\x2fb\\x00", "zero byte"],
  ["shop@12", "6 to 32 lower-case hex digits"],
  [`${"x".repeat(254)}`, "at most 253 characters"],
  [`shop/uploads/${"abc/".repeat(20_000)}`, "at most 65536 bytes"],
])("%s is refused with what was expected", (text, message) => {
  expect(() => parseSharePath(text)).toThrow(TidemarkError);
  expect(() => parseSharePath(text)).toThrow(message);
});

test("an app reference is not a share path", () => {
  expect(() => parseAppRef("shop/uploads")).toThrow("names more than an app");
});
