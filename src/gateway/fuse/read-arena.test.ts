import { expect, test } from "vitest";
import { ReadArena } from "./read-arena.ts";

const FRAME = 1024;

test("memory of requests answered at once is used again", () => {
  const arena = new ReadArena(FRAME);
  expect(arena.space()?.at).toBe(0);
  expect(arena.space()?.at).toBe(0);
});

test("memory of waiting requests is not handed out until given back", () => {
  const arena = new ReadArena(FRAME);
  const first = arena.space();
  const release = arena.hold(100);
  const second = arena.space();
  expect(second?.wire).toBe(first?.wire);
  expect(second?.at).toBe(104);
  release();
  release();
  expect(arena.space()?.at).toBe(0);
});

test("without limit on how long they wait there is one on how much is held", () => {
  const arena = new ReadArena(FRAME);
  const releases: (() => void)[] = [];
  while (arena.space() !== undefined) releases.push(arena.hold(FRAME));
  expect(releases.length).toBe(64);
  expect(arena.space()).toBeUndefined();
  releases.pop()?.();
  for (const release of releases.splice(0, 10)) release();
  expect(arena.space()).toBeDefined();
  for (const release of releases) release();
  expect(arena.space()).toBeDefined();
});

test("pieces held at the same time never overlap", () => {
  const arena = new ReadArena(FRAME);
  const held = new Map<object, [number, number][]>();
  for (let index = 0; index < 40; index++) {
    const space = arena.space();
    if (space === undefined) throw new Error("no space");
    const bytes = 40 + ((index * 97) % 900);
    const pieces = held.get(space.wire) ?? [];
    for (const [from, to] of pieces) expect(space.at >= to || space.at + bytes <= from).toBe(true);
    held.set(space.wire, [...pieces, [space.at, space.at + bytes]]);
    arena.hold(bytes);
  }
});
