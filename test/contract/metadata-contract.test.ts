import { openModel } from "../model/model-api.ts";
import { openEngine } from "../model/open-engine.ts";
import { metadataContract } from "./metadata-contract.ts";

metadataContract("the model", openModel, { manyNames: 100 });
if (openEngine !== undefined) metadataContract("the engine", openEngine, { manyNames: 10_000 });
