import { openEngine } from "../model/open-engine.ts";
import { metadataContract } from "./metadata-contract.ts";
import { overSessions } from "./session-harness.ts";

if (openEngine !== undefined)
  metadataContract("the engine over a session", overSessions(openEngine), { manyNames: 2_000 });
