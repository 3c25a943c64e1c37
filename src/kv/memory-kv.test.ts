import { kvContract } from "../../test/contract/kv-contract.ts";
import { MemoryKv } from "./memory-kv.ts";

kvContract("MemoryKv", async () => ({ open: async () => new MemoryKv(), dispose: async () => {} }));
