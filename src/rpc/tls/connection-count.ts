import type { Socket } from "node:net";

/** What one service takes on, so that no stranger can use up its descriptors or memory. */
export type ConnectionLimits = {
  /** A node has one connection for each share it has mounted; so many are beyond what one service carries, and below usual limits of descriptors. */
  readonly connectionsMax: number;
  /** Of one address, which may be that of many nodes: a quarter, so that nobody has them all. */
  readonly connectionsPerAddressMax: number;
  /** Of those, how many may not have proven who they are yet. The mounts of one node all come back at once when the service was restarted; who is refused comes again. */
  readonly handshakesPerAddressMax: number;
  /** From the first byte to a proven certificate. */
  readonly handshakeMs: number;
};

export const CONNECTION_LIMITS: ConnectionLimits = {
  connectionsMax: 4000,
  connectionsPerAddressMax: 1000,
  handshakesPerAddressMax: 256,
  handshakeMs: 10_000,
};

/** Of one address: the ports of all its connections, and of those that have proven nothing yet. */
type Counted = { readonly all: Set<number>; readonly unproven: Set<number> };

/** Counts the connections of a listener by the address they come from. */
export class ConnectionCount {
  readonly #limits: ConnectionLimits;
  readonly #byAddress = new Map<string, Counted>();

  constructor(limits: ConnectionLimits) {
    this.#limits = limits;
  }

  /** Takes a connection in, until it closes; or says why not. */
  refusal(socket: Socket): string | undefined {
    const { connectionsPerAddressMax, handshakesPerAddressMax } = this.#limits;
    // Asked for now: a socket that has failed does not know any more.
    const { remoteAddress: address = "", remotePort: port = 0 } = socket;
    const counted = this.#byAddress.get(address) ?? { all: new Set(), unproven: new Set() };
    if (counted.all.size >= connectionsPerAddressMax) return `it has ${counted.all.size} connections already`;
    if (counted.unproven.size >= handshakesPerAddressMax)
      return `it has ${counted.unproven.size} handshakes under way already`;
    counted.all.add(port);
    counted.unproven.add(port);
    this.#byAddress.set(address, counted);
    socket.once("close", () => {
      counted.all.delete(port);
      counted.unproven.delete(port);
      if (counted.all.size === 0) this.#byAddress.delete(address);
    });
    return undefined;
  }

  /** A connection that was taken in has proven who it is. */
  proven({ remoteAddress = "", remotePort = 0 }: Socket): void {
    this.#byAddress.get(remoteAddress)?.unproven.delete(remotePort);
  }
}
