import { openModel } from "../model/model-api.ts";
import { openCoherent, openEngine } from "../model/open-engine.ts";
import { metadataContract } from "./metadata-contract.ts";

metadataContract("the model", openModel, { manyNames: 100 });
if (openEngine !== undefined) metadataContract("the engine", openEngine, { manyNames: 10_000 });
metadataContract("the engine among several caches", openCoherent, { manyNames: 1000 });
