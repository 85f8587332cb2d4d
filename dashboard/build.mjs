// Makes what the gate serves, in swarmgate/dashboard/static/, from source/. With --check nothing is written: what is
// there is compared, octet by octet, with what would be.

import { readFile, readdir, writeFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const here = new URL("./", import.meta.url);
const source = new URL("source/", here);
const target = new URL("../swarmgate/dashboard/static/", here);

const built = await build({
  absWorkingDir: here.pathname,
  entryPoints: { app: "source/app.tsx", style: "source/style.css" },
  outdir: "out",
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  legalComments: "none",
  metafile: true,
  write: false,
});

const files = new Map(built.outputFiles.map((file) => [file.path.split("/").at(-1), Buffer.from(file.contents)]));
for (const name of ["index.html", "icon.svg"]) files.set(name, await readFile(new URL(name, source)));
files.set("licences.txt", Buffer.from(await licences()));

// The licences of the packages of which something is in the output.
async function licences() {
  const used = Object.values(built.metafile.outputs).flatMap((output) => Object.keys(output.inputs));
  const names = used.map((path) => /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1]).filter(Boolean);
  const told = ["What others have made of app.js and style.css, and its licences.\n"];
  for (const name of [...new Set(names)].sort()) {
    const folder = new URL(`node_modules/${name}/`, here);
    const { version } = JSON.parse(await readFile(new URL("package.json", folder), "utf8"));
    const text = await readFile(new URL("LICENSE", folder), "utf8");
    told.push(`${name} ${version}\n\n${text.trim().replaceAll(/^/gm, "    ").replaceAll(/^ +$/gm, "")}\n`);
  }
  return told.join("\n");
}

let differs = false;
if (process.argv.includes("--check")) {
  const there = (await readdir(target)).sort();
  for (const name of new Set([...there, ...files.keys()])) {
    const made = files.get(name);
    const found = there.includes(name) ? await readFile(new URL(name, target)) : undefined;
    if (made && found && made.equals(found)) continue;
    differs = true;
    console.error(`swarmgate/dashboard/static/${name} is not what its source makes: run make dashboard`);
  }
} else {
  for (const [name, content] of files) await writeFile(new URL(name, target), content);
}
for (const [name, content] of [...files].sort()) {
  console.log(`${name.padEnd(13)}${kilobytes(content)} kB, ${kilobytes(gzipSync(content))} kB with gzip`);
}
process.exitCode = differs ? 1 : 0;

function kilobytes(content) {
  return (content.length / 1000).toFixed(1).padStart(6);
}
