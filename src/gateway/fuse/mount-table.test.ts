import { expect, test } from "vitest";
import { mountAt, mountContaining, parseMountTable } from "./mount-table.ts";

const TEXT = [
  "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw",
  "30 27 0:21 / /proc rw - proc proc rw",
  "44 27 0:41 / /srv/up\\040loads rw,nosuid master:3 - fuse.tidemark shop/up\\040loads rw,user_id=0",
  "45 44 0:42 / /srv/up\\040loads/inner rw - tmpfs tmpfs rw",
  "46 27 0:43 / /srv/gr\\303\\274n rw - fuse.tidemark a/b rw",
  "nonsense",
].join("\n");

const table = parseMountTable(TEXT);

test("paths are unescaped, optional fields skipped, foreign lines ignored", () => {
  expect(table.map(({ target }) => target)).toEqual([
    "/",
    "/proc",
    "/srv/up loads",
    "/srv/up loads/inner",
    "/srv/grün",
  ]);
  expect(table[2]).toEqual({
    target: "/srv/up loads",
    fileSystem: "fuse.tidemark",
    source: "shop/up loads",
    deviceMinor: 41,
  });
});

test("the mount at a path is the one on top", () => {
  const twice = parseMountTable(`${TEXT}\n50 27 0:60 / /srv/gr\\303\\274n rw - tmpfs top rw`);
  expect(mountAt(twice, "/srv/grün")?.source).toBe("top");
  expect(mountAt(table, "/srv")).toBeUndefined();
});

test("the mount around a path is the deepest one", () => {
  expect(mountContaining(table, "/srv/up loads/a/b")?.source).toBe("shop/up loads");
  expect(mountContaining(table, "/srv/up loads/inner/x")?.source).toBe("tmpfs");
  expect(mountContaining(table, "/srv/up loads2")?.target).toBe("/");
});
