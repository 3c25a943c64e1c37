import type { Timestamp } from "../base/clock.ts";
import type { AppId, Lsn } from "../domain/ids.ts";
import { type PackId, packId } from "./chunk-place.ts";
import { JsonFields } from "./json-fields.ts";
import type { SealId } from "./names.ts";

// FORMAT.md, "Seal": its JSON head.

/** What an app is called, as of a record. */
export type AppDescription = {
  readonly namespace: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly created: Timestamp;
  readonly deleted: Timestamp | null;
};

/** A seal by the one before it: the SHA-256 of its object's bytes, as hex. */
export type SealReference = SealId & { readonly hash: string };

/** What a seal says of itself. */
export type SealHead = {
  readonly appId: AppId;
  readonly epoch: number;
  readonly sequence: number;
  /** null: the line of seals begins here, with LSN 1 or behind a base. */
  readonly previous: SealReference | null;
  readonly from: Lsn;
  readonly to: Lsn;
  readonly firstTime: Timestamp;
  readonly lastTime: Timestamp;
  /** h(to) as hex. */
  readonly chain: string;
  readonly app: AppDescription;
  readonly writer: { readonly host: string; readonly service: string };
  /** Packs that were written for this seal. */
  readonly packs: readonly { readonly id: PackId; readonly bytes: number }[];
  /** Of the range in the journal, data included. */
  readonly journalBytes: number;
};

const HASH_BYTES = 32;
const ID_BYTES = 16;

/** Packs that one seal may be the first to name: a TiB of them. Bounds what a reader believes. */
const PACKS_MAX = 32_768;

/** Reads a head. Throws RangeError for what is none. */
export function readSealHead(bytes: Buffer): SealHead {
  const fields = JsonFields.parse(bytes);
  const writer = fields.object("writer");
  const head: SealHead = {
    appId: fields.hex("appId", ID_BYTES) as AppId,
    epoch: fields.count("epoch"),
    sequence: fields.count("sequence"),
    previous: fields.isNull("previous") ? null : readReference(fields.object("previous")),
    from: fields.count("from") as Lsn,
    to: fields.count("to") as Lsn,
    firstTime: fields.time("firstTime"),
    lastTime: fields.time("lastTime"),
    chain: fields.hex("chain", HASH_BYTES),
    app: readAppDescription(fields.object("app")),
    writer: { host: writer.text("host"), service: writer.text("service") },
    packs: fields.list("packs", PACKS_MAX).map(readPack),
    journalBytes: fields.count("journalBytes"),
  };
  if (head.from < 1 || head.to < head.from) throw new RangeError(`records ${head.from} to ${head.to} are no range`);
  return head;
}

/** Reads what an app is called. Throws RangeError. */
export function readAppDescription(fields: JsonFields): AppDescription {
  return {
    namespace: fields.text("namespace"),
    name: fields.text("name"),
    labels: fields.texts("labels"),
    created: fields.time("created"),
    deleted: fields.isNull("deleted") ? null : fields.time("deleted"),
  };
}

function readReference(fields: JsonFields): SealReference {
  return { epoch: fields.count("epoch"), sequence: fields.count("sequence"), hash: fields.hex("hash", HASH_BYTES) };
}

function readPack(value: unknown): { id: PackId; bytes: number } {
  const fields = new JsonFields(value);
  return { id: packId(fields.hex("id", ID_BYTES)), bytes: fields.count("bytes") };
}
