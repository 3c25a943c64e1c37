import { BlockList, isIP } from "node:net";
import { TidemarkError } from "../../domain/errors.ts";

/** Where a service listens, or is reached: an IP address or a name, and a TCP port (0, when listening: one that is free). */
export type NetworkAddress = { readonly host: string; readonly port: number };

/** RFC 1123, 2.1: letters, digits and hyphens in labels of up to 63; a whole name has at most 253. */
const HOST_NAME =
  /^(?!.{254})[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$/;

/** What an IPv4 address could be mistaken for: it is none, so it is no name either. */
const ONLY_NUMBERS = /^[0-9.]+$/;

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet("127.0.0.0", 8, "ipv4");
LOOPBACK.addAddress("::1", "ipv6");

/** `HOST:PORT`, an IPv6 address in brackets. `what` is how messages call it. Throws INVALID_ARGUMENT. */
export function parseNetworkAddress(what: string, text: string): NetworkAddress {
  const match = /^(?:\[([^\]]*)\]|([^:[\]]*)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2] ?? "";
  const port = Number(match?.[3]);
  const fits =
    match?.[1] === undefined ? isIP(host) === 4 || isHostName(host) : isIP(host) === 6 && !host.includes("%");
  if (match !== null && fits && port <= 65_535) return { host, port };
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `${what} "${text}" is no network address: expected HOST:PORT, as 10.0.0.1:7400, files.example.net:7400 or [fd00::1]:7400`,
  );
}

/** Whether `text` is a DNS name (no address). */
export function isHostName(text: string): boolean {
  return HOST_NAME.test(text) && !ONLY_NUMBERS.test(text);
}

/** As `parseNetworkAddress` reads it. */
export function formatNetworkAddress({ host, port }: NetworkAddress): string {
  return isIP(host) === 6 ? `[${host}]:${port}` : `${host}:${port}`;
}

/** An IPv4 address as it is, not as it looks to a socket that listens for both (RFC 4291, 2.5.5.2); others unchanged. */
export function unmapped(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/, "");
}

/** Whether nobody outside of this machine can reach it. A name is only believed when it is "localhost". */
export function isLoopback(host: string): boolean {
  const family = isIP(host);
  if (family === 0) return host === "localhost";
  return LOOPBACK.check(host, family === 6 ? "ipv6" : "ipv4");
}

/** Whether it means all addresses of the machine. */
export function isWildcard(host: string): boolean {
  return host === "0.0.0.0" || (isIP(host) === 6 && /^[0:]+$/.test(host));
}
