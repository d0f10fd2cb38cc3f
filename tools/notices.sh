#!/bin/sh
# What the crates in the binary want said of them: notices.sh TARGET. Each crate's name and licence, then the licence
# texts that come with it. Apache's whole text is left out; Debian has it in /usr/share/common-licenses.
set -eu
target=$1
manifests=$(mktemp) crates=$(mktemp)
trap 'rm -f "$manifests" "$crates"' EXIT
cargo metadata --locked --format-version 1 --filter-platform "$target" |
	grep -o '"manifest_path":"[^"]*"' | sed 's/^"manifest_path":"//; s/"$//' >"$manifests"
# A line is `name vVERSION|LICENCE|REPOSITORY`; a proc-macro runs in the compiler and is not in the binary.
cargo tree --locked -e normal --target "$target" --prefix none -f '{p}|{l}|{r}' |
	grep -v '^cowroot v\|(proc-macro)' | sed 's/ (\*)$//' | LC_ALL=C sort -u >"$crates"
[ -s "$crates" ] || { echo "notices.sh: cargo tree named no crate for '$target'" >&2 && exit 1; }

echo "The program contains these crates, unchanged, under the licences they name."
while IFS='|' read -r crate licence repository; do
	crate=$(echo "$crate" | sed 's/ v/-/')
	manifest=$(grep "/$crate/Cargo.toml\$" "$manifests") ||
		{ echo "notices.sh: finding the source of '$crate': cargo metadata does not name it" >&2 && exit 1; }
	printf '\n%s\n%s: %s\n%s\n' "----------------------------------------" "$crate" "$licence" "$repository"
	find "${manifest%/*}" -maxdepth 2 -type f \( -ipath '*/licen[cs]e*' -o -iname 'copying*' -o -iname 'copyright*' \
		-o -iname 'notice*' -o -iname 'unlicense*' \) | LC_ALL=C sort | while IFS= read -r text; do
		grep -q 'TERMS AND CONDITIONS FOR USE, REPRODUCTION' "$text" || { echo && tr -d '\r' <"$text"; }
	done
done <"$crates"
