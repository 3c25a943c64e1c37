import type { AppId } from "../../src/domain/ids.ts";
import { AppKeys, newAppKeyMaterial } from "../../src/repository/app-keys.ts";

// What the shipping process and who verifies its work agree on.

export const SHIPPED_APP = "ab".repeat(16) as AppId;
export const SHIPPED_SLOT = 3;

/** New keys as the text of a file. */
export function newKeysText(): string {
  const { tag, key } = newAppKeyMaterial({ appId: SHIPPED_APP });
  return JSON.stringify({ tag, key: Buffer.from(key).toString("hex") });
}

export function appKeysOf(text: string): AppKeys {
  const { tag, key } = JSON.parse(text) as { tag: string; key: string };
  return new AppKeys({ appId: SHIPPED_APP, tag, key: Buffer.from(key, "hex") });
}
