// Checks the notes and the inclusion proofs of a bundle with Go's x/mod/sumdb: no code of Runwright.
//
//	verify KEY FOLDER
//
// KEY is the text of the verifier key that the caller trusts. Every check is a line; the first one
// that does not hold is the last line, begins with FAIL and ends the program with status 1.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const proofHeader = "c2sp.org/tlog-proof@v1"

// A bundle is what is read of the folder.
type bundle struct {
	folder   string
	verifier note.Verifier
	note     []byte // of the file "checkpoint"
	tree     tlog.Tree
	entries  [][]byte
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: verify KEY FOLDER")
		os.Exit(2)
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(os.Args[1]))
	check("key", "the verifier key", err)
	found := bundle{folder: os.Args[2], verifier: verifier}

	found.note, err = os.ReadFile(filepath.Join(found.folder, "checkpoint"))
	check("note", "checkpoint is there", err)
	found.tree, err = found.open(found.note)
	check("note", fmt.Sprintf("checkpoint over %d entries", found.tree.N), err)
	check("tree", "entries.jsonl", found.read())
	if int64(len(found.entries)) == found.tree.N {
		check("tree", fmt.Sprintf("the root of %d entries", found.tree.N), found.checkRoot())
		return
	}
	for _, entry := range found.entries {
		found.checkEntry(entry)
	}
}

// check prints one line, and ends the program when the check does not hold.
func check(level, what string, err error) {
	if err != nil {
		fmt.Printf("FAIL %s: %s: %v\n", level, what, err)
		os.Exit(1)
	}
	fmt.Printf("ok   %s: %s\n", level, what)
}

// open returns the tree of a note that the trusted key signed for the log of its own name.
func (b *bundle) open(text []byte) (tlog.Tree, error) {
	opened, err := note.Open(text, note.VerifierList(b.verifier))
	if err != nil {
		return tlog.Tree{}, err
	}
	origin, rest, _ := strings.Cut(opened.Text, "\n")
	if origin != b.verifier.Name() {
		return tlog.Tree{}, fmt.Errorf("it is of the log %q", origin)
	}
	// A checkpoint is the tree note of the checksum database with another first line.
	return tlog.ParseTree([]byte("go.sum database tree\n" + rest))
}

func (b *bundle) read() error {
	data, err := os.ReadFile(filepath.Join(b.folder, "entries.jsonl"))
	if err != nil {
		return err
	}
	if !bytes.HasSuffix(data, []byte("\n")) {
		return errors.New("its last line is cut off")
	}
	b.entries = bytes.Split(data[:len(data)-1], []byte("\n"))
	return nil
}

// checkRoot computes the root of all entries, for a bundle that holds the whole ledger.
func (b *bundle) checkRoot() error {
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		hashes := make([]tlog.Hash, len(indexes))
		for place, index := range indexes {
			hashes[place] = stored[index]
		}
		return hashes, nil
	})
	for seq, entry := range b.entries {
		hashes, err := tlog.StoredHashes(int64(seq), entry, reader)
		if err != nil {
			return err
		}
		stored = append(stored, hashes...)
	}
	root, err := tlog.TreeHash(b.tree.N, reader)
	if err == nil && root != b.tree.Hash {
		err = errors.New("it is not the one in the checkpoint")
	}
	return err
}

// checkEntry checks that an entry is in the tree at the place that it says.
func (b *bundle) checkEntry(entry []byte) {
	var header struct {
		Seq *int64 `json:"seq"`
	}
	err := json.Unmarshal(entry, &header)
	if err == nil && header.Seq == nil {
		err = errors.New("it has no seq")
	}
	check("tree", "an entry says its place", err)
	name := fmt.Sprintf("proofs/%d.tlog-proof", *header.Seq)
	data, err := os.ReadFile(filepath.Join(b.folder, name))
	check("tree", name+" is there", err)
	index, path, text, err := parseProof(string(data))
	if err == nil && index != *header.Seq {
		err = fmt.Errorf("it is of entry %d", index)
	}
	check("tree", name, err)
	tree, err := b.open([]byte(text))
	check("tree", "the checkpoint in "+name, err)
	if text != string(b.note) {
		err = errors.New("it is another one than the bundle's")
	}
	check("tree", "the checkpoint in "+name+" is the bundle's", err)
	err = tlog.CheckRecord(path, tree.N, tree.Hash, index, tlog.RecordHash(entry))
	check("tree", fmt.Sprintf("entry %d is in the tree of %d", index, tree.N), err)
}

// parseProof takes a tlog-proof apart; x/mod has no parser of its own for this format.
func parseProof(text string) (int64, tlog.RecordProof, string, error) {
	above, below, found := strings.Cut(text, "\n\n")
	lines := strings.Split(above, "\n")
	if len(lines) > 1 && strings.HasPrefix(lines[1], "extra ") {
		lines = append(lines[:1], lines[2:]...)
	}
	if !found || lines[0] != proofHeader || len(lines) < 2 || !strings.HasPrefix(lines[1], "index ") {
		return 0, nil, "", errors.New("not a " + proofHeader)
	}
	digits := strings.TrimPrefix(lines[1], "index ")
	index, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || index < 0 || digits != strconv.FormatInt(index, 10) {
		return 0, nil, "", errors.New("its index is not a number")
	}
	path := tlog.RecordProof{}
	for _, line := range lines[2:] {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return 0, nil, "", err
		}
		path = append(path, hash)
	}
	return index, path, below, nil
}
