import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { calculateJwkThumbprint } from "jose";
import type { Timestamp } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { RequestContext } from "../../domain/metadata-api.ts";
import { RECORD_OP } from "../../domain/record-op.ts";
import { TOKEN_LIFETIME_MS_MAX } from "../../domain/token.ts";
import type { EngineCore } from "../core.ts";
import { SERVICE_CONTEXT } from "../open-app.ts";
import { encodeJson } from "../rows.ts";
import { publicKeyOf, publicPart, readSigningKey, type SigningKey, writeSigningKey } from "./key-file.ts";
import { loadTokenKeys, type TokenKeyRow, tokenKeyKey } from "./token-rows.ts";

/** Keys that are known at a time: one for each day of a token's longest life, and some. */
const KEYS_MAX = 400;

/** A key, and whether what it signed is good. */
export type VerifyingKey = { readonly row: TokenKeyRow; readonly publicKey: KeyObject };

/**
 * The keys that sign tokens (Ed25519). One signs, from a file; the public halves of it and of those before it are rows.
 *
 * K1  A key signs only after its row is durable, so what it signs can be verified after any crash.
 * K2  A key whose row is retired or revoked signs nothing, whatever the file says.
 */
export class TokenKeys {
  readonly #core: EngineCore;
  readonly #dataFolder: string;
  readonly #rows: Map<string, TokenKeyRow>;
  readonly #publicKeys = new Map<string, KeyObject>();
  #signing: SigningKey | undefined;
  #changing: Promise<unknown> = Promise.resolve();

  private constructor(core: EngineCore, dataFolder: string) {
    this.#core = core;
    this.#dataFolder = dataFolder;
    this.#rows = loadTokenKeys(core);
  }

  static async open(options: {
    readonly core: EngineCore;
    readonly dataFolder: string;
    readonly log: Log;
  }): Promise<TokenKeys> {
    const keys = new TokenKeys(options.core, options.dataFolder);
    const found = await readSigningKey(options.dataFolder, options.log);
    const row = found === undefined ? undefined : keys.#rows.get(found.id);
    // K2; and a key file of another folder is nobody's here.
    if (row !== undefined && row.retiredAt === undefined && row.revokedAt === undefined) keys.#signing = found;
    return keys;
  }

  /** The key with which tokens are signed; made when the first one is. */
  async signing(): Promise<SigningKey> {
    return this.#signing ?? (await this.#inTurn(async () => this.#signing ?? (await this.#renew(SERVICE_CONTEXT))));
  }

  /** The key of that name, also one that signs no more. */
  find(id: string): VerifyingKey | undefined {
    const row = this.#rows.get(id);
    if (row === undefined) return undefined;
    let publicKey = this.#publicKeys.get(id);
    if (publicKey === undefined) {
      publicKey = publicKeyOf(row.x);
      this.#publicKeys.set(id, publicKey);
    }
    return { row, publicKey };
  }

  /** A new key signs from now on. With `revokeOld` nothing that another one signed is good any more: answers which ones that are. Durable when it resolves. */
  rotate(
    { revokeOld }: { readonly revokeOld: boolean },
    context: RequestContext,
  ): Promise<{ readonly id: string; readonly revoked: readonly string[] }> {
    return this.#inTurn(async () => {
      const old = [...this.#rows.values()].filter((row) => row.revokedAt === undefined).map((row) => row.id);
      // First, so that a crash, or a full disk, leaves what was to be revoked revoked.
      if (revokeOld) this.#revoke(old, context);
      const { id } = await this.#renew(context);
      return { id, revoked: revokeOld ? old : [] };
    });
  }

  async #renew(context: RequestContext): Promise<SigningKey> {
    this.#forgetOld(context);
    if (this.#rows.size >= KEYS_MAX) {
      const message = `${KEYS_MAX} keys that signed tokens are still good: rotate with --revoke-old, or wait until what they signed has expired`;
      throw new TidemarkError("FAILED_PRECONDITION", message);
    }
    const { privateKey } = generateKeyPairSync("ed25519");
    const x = publicPart(privateKey);
    const id = await calculateJwkThumbprint({ kty: "OKP", crv: "Ed25519", x });
    const now = this.#core.clock.now();
    this.#retireAll(now, context);
    this.#put({ id, x, createdAt: now }, context);
    await this.#core.journal.sync(this.#core.lastLsn);
    const key = { id, privateKey };
    await writeSigningKey(this.#dataFolder, key);
    this.#signing = key;
    return key;
  }

  #retireAll(now: Timestamp, context: RequestContext): void {
    this.#signing = undefined;
    for (const row of this.#rows.values())
      if (row.retiredAt === undefined) this.#put({ ...row, retiredAt: now }, context);
  }

  #revoke(ids: readonly string[], context: RequestContext): void {
    const revokedAt = this.#core.clock.now();
    for (const id of ids) {
      const row = this.#rows.get(id);
      if (row !== undefined) this.#put({ ...row, retiredAt: row.retiredAt ?? revokedAt, revokedAt }, context);
    }
  }

  /** Nothing that these signed can be good: the longest life has passed since. */
  #forgetOld(context: RequestContext): void {
    const beforeSec = this.#core.clock.now().sec - TOKEN_LIFETIME_MS_MAX / 1000;
    for (const row of [...this.#rows.values()]) {
      if (row.retiredAt === undefined || row.retiredAt.sec >= beforeSec) continue;
      const tx = this.#core.begin(context);
      tx.row(tokenKeyKey(row.id), null);
      tx.commit(RECORD_OP.TOKEN_KEYS, encodeJson({ ...row, forgotten: true }));
      this.#rows.delete(row.id);
      this.#publicKeys.delete(row.id);
    }
  }

  #put(row: TokenKeyRow, context: RequestContext): void {
    const tx = this.#core.begin(context);
    tx.row(tokenKeyKey(row.id), encodeJson(row));
    // On a full disk it must be possible to take rights back.
    tx.commit(RECORD_OP.TOKEN_KEYS, encodeJson(row), { useReserve: row.revokedAt !== undefined });
    this.#rows.set(row.id, row);
  }

  /** One change at a time. */
  #inTurn<T>(change: () => Promise<T>): Promise<T> {
    const result = this.#changing.then(change);
    this.#changing = result.catch(() => undefined);
    return result;
  }
}
