// What was chosen: paths, what is no image, and what holds the same as another file.

const SYSTEM = /^(thumbs\.db|desktop\.ini|autorun\.inf)$/i;
const PROGRAM = /\.(app|bat|bin|cab|cmd|com|dll|dylib|exe|ico|inf|jar|msi|ocx|so|sys)$/i;
const DOCUMENT = /\.(css|csv|docx?|html?|js|json|log|md|od[pst]|pdf|pptx?|rtf|txt|xlsx?|xml|xsl)$/i;
const PROBE = 4096; // bytes at either end that tell apart nearly all files of one size

// Files as {file, path} of a file dialogue; a chosen folder stands in the path.
export function chosenFiles(files) {
  return [...files].map((file) => ({ file, path: file.webkitRelativePath || file.name }));
}

// Files as {file, path} of what was dropped, folders however deep.
export async function droppedFiles(entries) {
  return (await Promise.all(entries.map(filesIn))).flat();
}

async function filesIn(entry) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [{ file, path: entry.fullPath.replace(/^\//, "") || file.name }];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found;
    for (const one of some) found.push(...(await filesIn(one)));
  }
}

// Why a file is not worth sending: a word for it, or nothing.
export function uselessness({ file, path }) {
  const parts = path.split("/");
  const name = parts.at(-1);
  if (parts.some((part) => part.startsWith(".") || part === "__MACOSX") || SYSTEM.test(name)) return "system";
  if (/^dicomdir$/i.test(name)) return "index";
  if (parts.some((part) => PROGRAM.test(part))) return "program";
  if (DOCUMENT.test(name)) return "document";
  return file.size === 0 ? "empty" : "";
}

// Entries by what their files hold, whatever they are called.
export class Contents {
  #bySize = new Map();

  add(entry) {
    const alike = this.#bySize.get(entry.file.size) || [];
    this.#bySize.set(entry.file.size, [...alike, entry]);
  }

  remove(entry) {
    const alike = this.#bySize.get(entry.file.size) || [];
    this.#bySize.set(entry.file.size, alike.filter((one) => one !== entry));
  }

  // The entry that holds the same bytes, or null. Most files are told apart by a few bytes.
  async twinOf(file) {
    const alike = this.#bySize.get(file.size) || [];
    if (!alike.length) return null;
    const ends = await endsOf(file);
    for (const entry of alike) {
      entry.ends ??= await endsOf(entry.file);
      if (entry.ends === ends && (await sameBytes(entry.file, file))) return entry;
    }
    return null;
  }
}

async function endsOf(file) {
  const ends = new Blob([file.slice(0, PROBE), file.slice(-PROBE)]);
  return String.fromCharCode(...new Uint8Array(await ends.arrayBuffer()));
}

async function sameBytes(one, other) {
  const [a, b] = await Promise.all([one.arrayBuffer(), other.arrayBuffer()]);
  const [first, second] = [new Uint8Array(a), new Uint8Array(b)];
  return first.every((byte, at) => byte === second[at]);
}
