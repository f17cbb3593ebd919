//! Where functions lie in an ELF file that a stranger may have made.
//!
//! Two tables of symbols and their names are read piece by piece: memory does not grow with the file, sizes and
//! counts are bounded, and no other file is named (`.gnu_debuglink` is not followed).

use std::io;

use object::{
    NativeEndian as Native,
    elf::{
        ELFCLASS64, ELFDATA2LSB, ELFDATA2MSB, ELFMAG, FileHeader64, PF_X, PT_LOAD, ProgramHeader64,
        SHN_UNDEF, SHT_DYNSYM, SHT_SYMTAB, STT_FUNC, SectionHeader64, Sym64,
    },
    pod::{Pod, from_bytes, slice_from_bytes},
};

/// Most segments, and sections, of a file that is read.
const HEADERS: usize = 4096;
/// Largest table, in bytes.
const TABLE: u64 = 64 << 20;
/// Bytes read at once.
const PIECE: usize = 64 << 10;
/// Longest name that can be looked for.
const NAME: usize = 64;
/// Most places in a table of names that end in a wanted name.
const PLACES: usize = 1024;

/// Bytes with a length, read at any place.
pub trait ReadAt {
    /// How many there are; they may become fewer while they are read.
    fn size(&self) -> u64;
    /// Fills `buffer` with the bytes from `offset` on.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for [u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = start.checked_add(buffer.len()).and_then(|end| self.get(start..end));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// Why no function can be found.
#[derive(Debug, thiserror::Error)]
pub enum SymbolError {
    /// It cannot be read, or became shorter meanwhile.
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It is something else, or of another kind of machine.
    #[error("not a 64-bit ELF file of this machine")]
    Other,
    /// What it says about itself cannot be.
    #[error("a broken ELF file: {0}")]
    Broken(&'static str),
    /// It is larger than what is read.
    #[error("{0} (the limit is {1})")]
    TooLarge(&'static str, u64),
}

/// For each of `names` the place in the file at which that function begins; `None` if it has no such function.
///
/// The dynamic symbols come first, then all symbols.
pub fn functions(
    file: &(impl ReadAt + ?Sized),
    names: &[&str],
) -> Result<Vec<Option<u64>>, SymbolError> {
    let mut first = [0; size_of::<FileHeader64<Native>>()];
    if file.size() < first.len() as u64 {
        return Err(SymbolError::Other);
    }
    file.read_at(&mut first, 0)?;
    let header: &FileHeader64<Native> = one(&first)?;
    let ident = &header.e_ident;
    let order = if cfg!(target_endian = "little") { ELFDATA2LSB } else { ELFDATA2MSB };
    if (ident.magic, ident.class, ident.data) != (ELFMAG, ELFCLASS64, order) {
        return Err(SymbolError::Other);
    }
    let at = (header.e_phoff.get(Native), header.e_phentsize.get(Native));
    let segments: Headers<ProgramHeader64<Native>> =
        Headers::read(file, at, header.e_phnum.get(Native))?;
    let at = (header.e_shoff.get(Native), header.e_shentsize.get(Native));
    let sections: Headers<SectionHeader64<Native>> =
        Headers::read(file, at, header.e_shnum.get(Native))?;
    let (segments, sections) = (segments.all()?, sections.all()?);
    let mut found = vec![None; names.len()];
    for kind in [SHT_DYNSYM, SHT_SYMTAB] {
        let Some(symbols) = sections.iter().find(|it| it.sh_type.get(Native) == kind) else {
            continue;
        };
        let link = symbols.sh_link.get(Native) as usize;
        let strings = sections.get(link).ok_or(SymbolError::Broken("symbols without names"))?;
        let places = places(file, Table::of(file, strings)?, names)?;
        if !places.is_empty() {
            look_up(file, Table::of(file, symbols)?, &places, segments, &mut found)?;
        }
        if found.iter().all(Option::is_some) {
            break;
        }
    }
    Ok(found)
}

/// Headers of one kind, as they stand in the file.
struct Headers<T> {
    bytes: Vec<u8>,
    count: usize,
    kind: std::marker::PhantomData<T>,
}

impl<T: Pod> Headers<T> {
    /// Reads `count` of them from a place in the file, where each has a size.
    fn read(
        file: &(impl ReadAt + ?Sized),
        (offset, size): (u64, u16),
        count: u16,
    ) -> Result<Self, SymbolError> {
        let count = usize::from(count);
        if count > HEADERS {
            return Err(SymbolError::TooLarge("more headers than are read", HEADERS as u64));
        }
        if count > 0 && usize::from(size) != size_of::<T>() {
            return Err(SymbolError::Broken("headers of another size"));
        }
        let length = count * size_of::<T>();
        within(file, offset, length as u64)?;
        let mut bytes = vec![0; length];
        file.read_at(&mut bytes, offset)?;
        Ok(Self { bytes, count, kind: std::marker::PhantomData })
    }

    fn all(&self) -> Result<&[T], SymbolError> {
        slice_from_bytes(&self.bytes, self.count).map(|(all, _)| all).map_err(|()| UNALIGNED)
    }
}

/// Cannot happen: the types of `object` may stand anywhere.
const UNALIGNED: SymbolError = SymbolError::Broken("headers at an odd place");

fn one<T: Pod>(bytes: &[u8]) -> Result<&T, SymbolError> {
    from_bytes(bytes).map(|(one, _)| one).map_err(|()| UNALIGNED)
}

fn within(file: &(impl ReadAt + ?Sized), offset: u64, length: u64) -> Result<(), SymbolError> {
    let end = offset.checked_add(length).filter(|end| *end <= file.size());
    end.map(drop).ok_or(SymbolError::Broken("a table beyond the end of the file"))
}

/// Where the contents of a section lie.
#[derive(Clone, Copy)]
struct Table {
    offset: u64,
    length: u64,
}

impl Table {
    fn of(
        file: &(impl ReadAt + ?Sized),
        section: &SectionHeader64<Native>,
    ) -> Result<Self, SymbolError> {
        let (offset, length) = (section.sh_offset.get(Native), section.sh_size.get(Native));
        within(file, offset, length)?;
        if length > TABLE {
            return Err(SymbolError::TooLarge("a table of more bytes than are read", TABLE));
        }
        Ok(Self { offset, length })
    }

    /// Its contents, in pieces of at most `size` bytes, each with its place in the table.
    fn pieces(self, size: usize) -> impl Iterator<Item = (u64, usize)> {
        let starts = (0..self.length).step_by(size);
        starts.map(move |start| {
            let left = usize::try_from(self.length - start).unwrap_or(usize::MAX);
            (start, left.min(size))
        })
    }
}

/// A place in a table of names at which a wanted name begins, and which.
type Place = (u64, usize);

/// All such places, in order. The end of a longer name may be one.
fn places(
    file: &(impl ReadAt + ?Sized),
    strings: Table,
    names: &[&str],
) -> Result<Vec<Place>, SymbolError> {
    let mut places = Vec::new();
    // Before each piece stands the end of the one before.
    let mut buffer = vec![0; NAME + PIECE];
    for (start, length) in strings.pieces(PIECE) {
        buffer.copy_within(PIECE.., 0);
        let filled = &mut buffer[..NAME + length];
        file.read_at(&mut filled[NAME..], strings.offset + start)?;
        for end in (NAME..filled.len()).filter(|at| filled[*at] == 0 && filled[*at - 1] != 0) {
            let before = start + (end - NAME) as u64;
            for (number, name) in names.iter().enumerate() {
                let first = before.checked_sub(name.len() as u64).filter(|_| name.len() <= NAME);
                if let Some(first) = first
                    && filled[..end].ends_with(name.as_bytes())
                {
                    if places.len() == PLACES {
                        let what = "its functions have more names of one ending than are read";
                        return Err(SymbolError::TooLarge(what, PLACES as u64));
                    }
                    places.push((first, number));
                }
            }
        }
    }
    places.sort_unstable();
    Ok(places)
}

/// Notes for each wanted name where the first function of it begins.
fn look_up(
    file: &(impl ReadAt + ?Sized),
    symbols: Table,
    places: &[Place],
    segments: &[ProgramHeader64<Native>],
    found: &mut [Option<u64>],
) -> Result<(), SymbolError> {
    const SIZE: usize = size_of::<Sym64<Native>>();
    let mut buffer = vec![0; PIECE / SIZE * SIZE];
    for (start, length) in symbols.pieces(buffer.len()) {
        let whole = length / SIZE * SIZE;
        file.read_at(&mut buffer[..whole], symbols.offset + start)?;
        let (all, _) = slice_from_bytes(&buffer, whole / SIZE).map_err(|()| UNALIGNED)?;
        for symbol in all {
            if Sym64::<Native>::st_type(symbol) != STT_FUNC
                || symbol.st_shndx.get(Native) == SHN_UNDEF
            {
                continue;
            }
            let name = u64::from(symbol.st_name.get(Native));
            let first = places.partition_point(|(at, _)| *at < name);
            for (_, number) in places[first..].iter().take_while(|(at, _)| *at == name) {
                let offset = in_file(symbol.st_value.get(Native), segments);
                let offset = offset.filter(|it| *it < file.size());
                found[*number] = found[*number].or(offset);
            }
        }
    }
    Ok(())
}

/// The place in the file of what is at `address` when it runs.
fn in_file(address: u64, segments: &[ProgramHeader64<Native>]) -> Option<u64> {
    segments.iter().find_map(|it| {
        let runs = it.p_type.get(Native) == PT_LOAD && it.p_flags.get(Native) & PF_X != 0;
        let beyond = address.checked_sub(it.p_vaddr.get(Native)).filter(|_| runs)?;
        if beyond < it.p_filesz.get(Native) {
            it.p_offset.get(Native).checked_add(beyond)
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests;
