import { expect, test } from "vitest";
import type { AppId } from "../domain/ids.ts";
import { type KnownApp, planRecovery } from "./recovery-plan.ts";

const id = (text: string): AppId => text.padEnd(32, "0") as AppId;
const known = (text: string, name: string, more: Partial<KnownApp> = {}): KnownApp => ({
  appId: id(text),
  namespace: "default",
  name,
  isDeleted: false,
  ...more,
});
const plan = (apps: readonly KnownApp[], wanted: Partial<Parameters<typeof planRecovery>[1]> = {}) =>
  planRecovery(apps, { apps: undefined, as: undefined, newId: () => "f".repeat(32), ...wanted });

test("all apps come back under their names and ids, deleted ones too", () => {
  const items = plan([known("b", "shop"), known("a", "blog", { isDeleted: true })]);
  expect(items.map(({ name, appId }) => [name, appId])).toEqual([
    ["blog", id("a")],
    ["shop", id("b")],
  ]);
});

test("two live apps of one name come back both", () => {
  const items = plan([known("b", "shop"), known("a", "shop"), known("c", "shop", { isDeleted: true })]);
  expect(items.map(({ name }) => name)).toEqual(["shop", "shop-b0000000", "shop"]);
});

test("an app is chosen by name, a deleted one by its id", () => {
  const apps = [known("a", "shop"), known("b", "shop", { isDeleted: true }), known("c", "blog")];
  const ref = { namespace: "default", name: "shop" };
  expect(plan(apps, { apps: [ref] }).map(({ appId }) => appId)).toEqual([id("a")]);
  expect(plan(apps, { apps: [{ ...ref, id: "b0" }] }).map(({ appId }) => appId)).toEqual([id("b")]);
  expect(() => plan(apps, { apps: [{ ...ref, name: "nothing" }] })).toThrow("shop@a0000000");
});

test("under a new name an app has an id of its own that orders names as before", () => {
  const [item] = plan([known("12345678aa", "shop")], { as: "shop2", apps: [{ namespace: "default", name: "shop" }] });
  expect(item).toMatchObject({ name: "shop2", sourceApp: id("12345678aa"), appId: `12345678${"f".repeat(24)}` });
  expect(() => plan([known("a", "x"), known("b", "y")], { as: "z" })).toThrow("one app only");
});
