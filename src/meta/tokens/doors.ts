import type { AdminApi } from "../../domain/admin-api.ts";
import type { CallOptions } from "../../domain/admin-call.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { MountId } from "../../domain/ids.ts";
import type { Peer } from "../../domain/session-api.ts";
import { TOKEN_DOORS, type TokenDoor } from "../../domain/token-doors.ts";
import { isMet, needWords } from "../../domain/token-needs.ts";
import type { Audit } from "../audit.ts";
import type { OpenApp } from "../open-app.ts";
import type { MetadataService } from "../service.ts";
import { DoorScope, type Narrowed } from "./door-scope.ts";
import type { TokenGrant } from "./token-grant.ts";
import type { CallGrant, Tokens } from "./tokens.ts";

/** What a call from the network brings along: whom the transport has proven, and the token, which is never logged. */
export type DoorCallOptions = CallOptions & {
  readonly peer: Peer;
  readonly bearer?: string;
  /** Ends a stream also while its client takes nothing. */
  readonly cut?: (error: TidemarkError) => void;
};

export type DoorParts = {
  /** What carries calls out that are allowed. */
  readonly api: AdminApi;
  readonly service: Pick<MetadataService, "find" | "get" | "nameOf" | "isDeleted">;
  readonly tokens: Tokens;
  readonly audit: Audit;
};

/** Calls at a time over the network: each may fill caches of some 50 MiB. */
const CALLS_MAX = 32;

/** Of them, under one token: nobody takes them all. */
const CALLS_PER_TOKEN_MAX = 8;

/** Calls that may hold a million differences, some 300 MB, and how many of them there are at a time. */
const MEMORY_HUNGRY: ReadonlySet<string> = new Set(["history.diff"]);
const HUNGRY_CALLS_MAX = 2;

const DOORS = new Map(TOKEN_DOORS.map((door) => [door.call, door]));

/**
 * The admin API for callers on the network: each call is held to the token that comes with it (`DoorCallOptions`), and only what src/domain/token-doors.ts lists is there at all.
 *
 * D1  Nothing is carried out without a valid token that has what the table says, or about anything outside of what the token is for. What can't be decided is refused.
 * D2  What is carried out is what was checked: names are turned into ids, moments into LSNs, before.
 * D3  When a token ends, so do the calls under it.
 * D4  Who acted is the token, whatever the caller says.
 */
export function heldAdmin(parts: DoorParts): AdminApi {
  const doors = new Doors(parts);
  const roles = Object.keys(parts.api) as (keyof AdminApi)[];
  const held = roles.map((role) => {
    const methods = new Proxy({}, { get: (_, name) => doors.method(role, String(name)) });
    return [role, methods];
  });
  return Object.fromEntries(held) as AdminApi;
}

type Method = (request: unknown, options?: CallOptions) => unknown;
type Call = { readonly door: TokenDoor; readonly method: Method; readonly request: object };

/** A call that is under way. */
type Entered = {
  readonly grant: TokenGrant;
  readonly narrowed: Narrowed;
  readonly options: CallOptions;
  leave(): void;
};

class Doors {
  readonly #parts: DoorParts;
  readonly #scope: DoorScope;
  readonly #calls = new CallCounts();

  constructor(parts: DoorParts) {
    this.#parts = parts;
    this.#scope = new DoorScope(parts);
  }

  method(role: keyof AdminApi, name: string): Method {
    const door = DOORS.get(`${role}.${name}`);
    if (door === undefined)
      // Some have no request: the options come last.
      return (...given) => {
        const why = "it is not for tokens: it is done on the service's own machine, by root";
        this.#note(`${role}.${name}`, why, { peer: (given.at(-1) as DoorCallOptions).peer });
        throw new TidemarkError("PERMISSION_DENIED", `${role}.${name}: ${why}`);
      };
    const target: object = this.#parts.api[role];
    const method = (Reflect.get(target, name) as Method).bind(target);
    return (request, options) => {
      const call: Call = { door, method, request: request as object };
      const asked = options as DoorCallOptions;
      return door.answers === "one" ? this.#one(call, asked) : this.#pages(call, asked);
    };
  }

  async #one(call: Call, asked: DoorCallOptions): Promise<unknown> {
    const { grant, narrowed, options, leave } = await this.#enter(call, asked);
    try {
      return narrowed.shown(await call.method(narrowed.request, options));
    } catch (error) {
      checkEnded(grant);
      throw error;
    } finally {
      leave();
    }
  }

  async *#pages(call: Call, asked: DoorCallOptions): AsyncGenerator<unknown> {
    const { grant, narrowed, options, leave } = await this.#enter(call, asked);
    try {
      for await (const page of call.method(narrowed.request, options) as AsyncIterable<unknown>) {
        const shown = narrowed.shown(page);
        checkEnded(grant);
        if (!isEmpty(shown)) yield shown;
      }
      checkEnded(grant);
    } catch (error) {
      checkEnded(grant);
      throw error;
    } finally {
      leave();
    }
  }

  /** D1 to D4. What it answers must be left. */
  async #enter({ door, request }: Call, { bearer, peer, signal, cut }: DoorCallOptions): Promise<Entered> {
    const undo: (() => void)[] = [];
    const leave = (): void => {
      for (const each of undo.splice(0).reverse()) each();
    };
    try {
      if (bearer === undefined) {
        this.#note(door.call, "without a token", { peer });
        throw new TidemarkError(
          "PERMISSION_DENIED",
          "a token is needed: send it in the metadata as authorization: Bearer TOKEN",
        );
      }
      const called = await this.#parts.tokens.exchangeForCall(bearer, { peer });
      const { grant } = called;
      undo.push(() => grant.release());
      // After the token was verified: who has none takes no place. Under the eldest: who may make tokens does not get more places by it.
      undo.push(this.#calls.enter("", CALLS_MAX));
      undo.push(this.#calls.enter(this.#parts.tokens.eldest(grant.id), CALLS_PER_TOKEN_MAX));
      if (MEMORY_HUNGRY.has(door.call)) undo.push(this.#calls.enter(door.call, HUNGRY_CALLS_MAX));
      const app = this.#parts.service.get(grant.appId);
      if (app === undefined) throw new TidemarkError("NOT_FOUND", "the app of the token is not there any more");
      const narrowed = await this.#narrowed(door, { request, called, app, peer });
      const ended = new AbortController();
      undo.push(
        grant.onEnded((reason) => {
          ended.abort();
          cut?.(endedBy(reason));
        }),
      );
      checkEnded(grant);
      const signals = signal === undefined ? [ended.signal] : [signal, ended.signal];
      const actor = { mountId: 0 as MountId, uid: 0, gid: 0, pid: 0, label: `token ${grant.id}` };
      return { grant, narrowed, options: { signal: AbortSignal.any(signals), actor, underToken: true }, leave };
    } catch (error) {
      leave();
      throw error;
    }
  }

  /** The request as it may be carried out. What is refused is in the audit log. */
  async #narrowed(
    door: TokenDoor,
    on: { readonly request: object; readonly called: CallGrant; readonly app: OpenApp; readonly peer: Peer },
  ): Promise<Narrowed> {
    const { grant } = on.called;
    try {
      const lacking = door.needs.filter((need) => !isMet(need, grant.ops));
      if (lacking.length > 0) throw refused(`it takes ${needWords(lacking)}`);
      return await this.#scope.narrow(door, on);
    } catch (error) {
      const reason = error instanceof TidemarkError ? error.data["reason"] : undefined;
      if (reason !== undefined) this.#note(door.call, String(reason), { peer: on.peer, grant });
      throw error;
    }
  }

  /** By host: each connection has a port of its own. */
  #note(what: string, why: string, { peer, grant }: { readonly peer: Peer; readonly grant?: TokenGrant }): void {
    const from = peer.node === "" ? peer.address.replace(/:\d+$/, "") : `node ${peer.node}`;
    const who = grant === undefined ? from : `token ${grant.id}, ${from}`;
    const appId = grant === undefined ? {} : { appId: grant.appId };
    this.#parts.audit.refused({ who, what, on: () => "", why, ...appId });
  }
}

/** How many calls of a kind are under way. */
class CallCounts {
  readonly #counts = new Map<string, number>();

  /** One more; answers how it ends. Throws UNAVAILABLE when there are `countMax` already. */
  enter(kind: string, countMax: number): () => void {
    const before = this.#counts.get(kind) ?? 0;
    if (before >= countMax)
      throw new TidemarkError("UNAVAILABLE", `${countMax} calls are under way already: try again later`);
    this.#counts.set(kind, before + 1);
    return () => {
      const left = (this.#counts.get(kind) ?? 1) - 1;
      if (left > 0) this.#counts.set(kind, left);
      else this.#counts.delete(kind);
    };
  }
}

function isEmpty(page: unknown): boolean {
  return Array.isArray(page) && page.length === 0;
}

/** What the token does not allow. */
function refused(why: string): TidemarkError {
  return new TidemarkError("PERMISSION_DENIED", `the token does not allow this: ${why}`, { data: { reason: why } });
}

/** D3. What stopped a call says why: a token that has ended is no caller that went away. */
function checkEnded({ ended }: TokenGrant): void {
  if (ended !== undefined) throw endedBy(ended);
}

function endedBy(reason: string): TidemarkError {
  return new TidemarkError("PERMISSION_DENIED", `the token does not allow this any more: ${reason}`);
}
