import { expect, test } from "vitest";
import { formatNetworkAddress } from "../../rpc/tls/network-address.ts";
import { formatTicket, parseTicket } from "../../rpc/tls/ticket.ts";
import { certificateNames, reachableAddresses } from "./service-names.ts";

const machine = { hostName: "machine.example", addresses: ["192.0.2.7", "2001:db8::7"] };

test("a certificate holds for what the service listens on, the machine's name, and what it was told", () => {
  const listens = [{ host: "10.0.0.1", port: 1 }];
  expect(certificateNames(listens, { names: ["files.example.net"], machine })).toEqual([
    "files.example.net",
    "machine.example",
    "10.0.0.1",
  ]);
  expect(certificateNames([{ host: "::", port: 1 }], { names: [], machine })).toEqual([
    "machine.example",
    ...["localhost", "127.0.0.1", "::1"],
    ...["192.0.2.7", "2001:db8::7"],
  ]);
  expect(certificateNames([{ host: "127.0.0.2", port: 1 }], { names: [], machine })).toContain("127.0.0.2");
});

test("a machine's name that no certificate can have is left out", () => {
  expect(
    certificateNames([{ host: "10.0.0.1", port: 1 }], { names: [], machine: { ...machine, hostName: "my_box" } }),
  ).toEqual(["10.0.0.1"]);
});

test("where the service is reached begins with the names it was told, and says nothing twice", () => {
  const listens = [
    { host: "0.0.0.0", port: 7400 },
    { host: "192.0.2.7", port: 7400 },
  ];
  expect(reachableAddresses(listens, { names: ["files.example.net"], machine }).map(formatNetworkAddress)).toEqual([
    "files.example.net:7400",
    "192.0.2.7:7400",
    "[2001:db8::7]:7400",
    "machine.example:7400",
  ]);
});

test("with hundreds of addresses the certificate and the ticket have as many as they have room for, names first", () => {
  const addresses = Array.from({ length: 500 }, (_, index) => `10.1.${index >> 8}.${index & 255}`);
  const many = { hostName: "machine.example", addresses };
  const listens = [{ host: "0.0.0.0", port: 7400 }];
  const names = certificateNames(listens, { names: ["files.example.net"], machine: many });
  expect(names).toHaveLength(64);
  expect(names.slice(0, 2)).toEqual(["files.example.net", "machine.example"]);
  const reached = reachableAddresses(listens, { names: ["files.example.net"], machine: many }).map(
    formatNetworkAddress,
  );
  const ticket = { name: "a", addresses: reached, authority: "", certificate: "", key: "" };
  expect(parseTicket("t", formatTicket(ticket)).addresses[0]).toBe("files.example.net:7400");
});
