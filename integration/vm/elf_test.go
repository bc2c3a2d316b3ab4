package vm

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"testing"
)

// elfFile is the least that is a dynamic program: an interpreter, the libraries it needs and where they are searched.
func elfFile(t *testing.T, interpreter, runpath string, needed ...string) []byte {
	t.Helper()
	var names, dynamic bytes.Buffer
	names.WriteByte(0)
	add := func(tag elf.DynTag, value string) {
		entry := elf.Dyn64{Tag: int64(tag), Val: uint64(names.Len())}
		names.WriteString(value + "\x00")
		if err := binary.Write(&dynamic, binary.LittleEndian, entry); err != nil {
			t.Fatal(err)
		}
	}
	for _, library := range needed {
		add(elf.DT_NEEDED, library)
	}
	if runpath != "" {
		add(elf.DT_RUNPATH, runpath)
	}
	const sectionNames = "\x00.interp\x00.dynamic\x00.dynstr\x00.shstrtab\x00"
	contents := [][]byte{nil, []byte(interpreter + "\x00"), dynamic.Bytes(), names.Bytes(), []byte(sectionNames)}
	sections := []elf.Section64{
		{},
		{Name: 1, Type: uint32(elf.SHT_PROGBITS)},
		{Name: 9, Type: uint32(elf.SHT_DYNAMIC), Link: 3, Entsize: 16},
		{Name: 18, Type: uint32(elf.SHT_STRTAB)},
		{Name: 26, Type: uint32(elf.SHT_STRTAB)},
	}
	header := elf.Header64{
		Type: uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Shentsize: 64, Shnum: uint16(len(sections)), Shstrndx: 4, Ehsize: 64,
	}
	copy(header.Ident[:], elf.ELFMAG+"\x02\x01\x01")
	at := uint64(64)
	for i := range sections {
		sections[i].Off, sections[i].Size = at, uint64(len(contents[i]))
		at += sections[i].Size
	}
	header.Shoff = at
	var out bytes.Buffer
	if err := binary.Write(&out, binary.LittleEndian, header); err != nil {
		t.Fatal(err)
	}
	out.Write(bytes.Join(contents, nil))
	if err := binary.Write(&out, binary.LittleEndian, sections); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
