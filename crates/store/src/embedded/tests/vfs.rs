//! SQLite's files on the same test disk as all others: its own access to files,
//! with those calls replaced that change something. So the disk can fail, or
//! forget, inside of a transaction too.
//!
//! SQLite is handed its own file objects, whose table of methods is exchanged
//! for a copy with four other entries. This is unsafe, as there is no safe way
//! to stand between SQLite and its files: the tables are copied once and never
//! freed, and the pointers are those SQLite gives, used within the call only.

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, Once, OnceLock};

use rusqlite::ffi::{self, sqlite3_file, sqlite3_filename, sqlite3_io_methods, sqlite3_vfs};

use crate::data::tests::disk::TestDisk;

/// What the index is opened with: found by its name, it is ours.
const NAME: &CStr = c"unix-excl";

static DISKS: Mutex<Vec<(PathBuf, Arc<TestDisk>)>> = Mutex::new(Vec::new());
static OPEN: LazyLock<Mutex<HashMap<usize, Arc<Open>>>> = LazyLock::new(Mutex::default);
/// SQLite's own tables, each with its copy.
static TABLES: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());
static OWN: OnceLock<usize> = OnceLock::new();

struct Open {
    path: PathBuf,
    disk: Arc<TestDisk>,
    methods: &'static sqlite3_io_methods,
    /// Its first sync makes its name durable too.
    names: bool,
}

/// While it lives, what SQLite does below `root` goes to `disk`.
pub(super) struct Watch(PathBuf);

impl Watch {
    pub(super) fn new(root: &Path, disk: &Arc<TestDisk>) -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(register);
        DISKS.lock().unwrap().push((root.to_owned(), disk.clone()));
        Self(root.to_owned())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        DISKS.lock().unwrap().retain(|(root, _)| *root != self.0);
    }
}

fn register() {
    unsafe {
        let own = ffi::sqlite3_vfs_find(NAME.as_ptr());
        OWN.set(own as usize).unwrap();
        let mut copy = *own;
        copy.zName = NAME.as_ptr();
        copy.pNext = std::ptr::null_mut();
        copy.xOpen = Some(open);
        copy.xDelete = Some(delete);
        assert_eq!(ffi::sqlite3_vfs_register(Box::leak(Box::new(copy)), 1), ffi::SQLITE_OK);
    }
}

fn own() -> *mut sqlite3_vfs {
    OWN.get().copied().unwrap() as *mut sqlite3_vfs
}

fn disk_of(path: &Path) -> Option<Arc<TestDisk>> {
    let disks = DISKS.lock().unwrap();
    disks.iter().find(|(root, _)| path.starts_with(root)).map(|(_, disk)| disk.clone())
}

fn code(error: &io::Error, other: c_int) -> c_int {
    if crate::gate::is_full(error) { ffi::SQLITE_FULL } else { other }
}

unsafe extern "C" fn open(
    _vfs: *mut sqlite3_vfs,
    name: sqlite3_filename,
    file: *mut sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    unsafe {
        let real = || (*own()).xOpen.unwrap()(own(), name, file, flags, out);
        if name.is_null() {
            return real();
        }
        let path = PathBuf::from(CStr::from_ptr(name).to_str().unwrap());
        let Some(disk) = disk_of(&path) else { return real() };
        let new = flags & ffi::SQLITE_OPEN_CREATE != 0 && !path.exists();
        if new && disk.db_create(&path).is_err() {
            (*file).pMethods = std::ptr::null();
            return ffi::SQLITE_CANTOPEN;
        }
        let done = real();
        if done == ffi::SQLITE_OK && !(*file).pMethods.is_null() {
            let methods: &'static sqlite3_io_methods = &*(*file).pMethods;
            (*file).pMethods = patched(methods);
            let names = new && flags & (ffi::SQLITE_OPEN_WAL | ffi::SQLITE_OPEN_MAIN_JOURNAL) != 0;
            OPEN.lock().unwrap().insert(file as usize, Arc::new(Open { path, disk, methods, names }));
        }
        done
    }
}

fn patched(methods: &'static sqlite3_io_methods) -> *const sqlite3_io_methods {
    let mut tables = TABLES.lock().unwrap();
    let key = std::ptr::from_ref(methods) as usize;
    if let Some((_, copy)) = tables.iter().find(|(own, _)| *own == key) {
        return *copy as *const sqlite3_io_methods;
    }
    let copy = sqlite3_io_methods {
        xClose: Some(close),
        xWrite: Some(write),
        xTruncate: Some(truncate),
        xSync: Some(sync),
        ..*methods
    };
    let copy: *const sqlite3_io_methods = Box::leak(Box::new(copy));
    tables.push((key, copy as usize));
    copy
}

fn known(file: *mut sqlite3_file) -> Arc<Open> {
    OPEN.lock().unwrap()[&(file as usize)].clone()
}

unsafe extern "C" fn delete(_vfs: *mut sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    unsafe {
        let real = || (*own()).xDelete.unwrap()(own(), name, sync);
        let path = PathBuf::from(CStr::from_ptr(name).to_str().unwrap());
        let Some(disk) = disk_of(&path) else { return real() };
        disk.db_delete(&path, real).unwrap_or(ffi::SQLITE_IOERR_DELETE)
    }
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    let open = OPEN.lock().unwrap().remove(&(file as usize)).unwrap();
    unsafe {
        (*file).pMethods = open.methods;
        open.methods.xClose.unwrap()(file)
    }
}

unsafe extern "C" fn write(file: *mut sqlite3_file, bytes: *const c_void, len: c_int, at: i64) -> c_int {
    let open = known(file);
    unsafe {
        let now = std::slice::from_raw_parts(bytes.cast::<u8>(), len as usize);
        let mut size = 0;
        assert_eq!(open.methods.xFileSize.unwrap()(file, &mut size), ffi::SQLITE_OK);
        let mut before = vec![0u8; now.len().min((size - at).max(0) as usize)];
        if !before.is_empty() {
            let read = open.methods.xRead.unwrap()(file, before.as_mut_ptr().cast(), before.len() as c_int, at);
            assert_eq!(read, ffi::SQLITE_OK);
        }
        let mut real =
            |bytes: &[u8]| open.methods.xWrite.unwrap()(file, bytes.as_ptr().cast(), bytes.len() as c_int, at);
        match open.disk.db_write(&open.path, at as u64, before, size as u64, now, &mut real) {
            Ok(done) => done,
            Err(error) => code(&error, ffi::SQLITE_IOERR_WRITE),
        }
    }
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, size: i64) -> c_int {
    let open = known(file);
    let real = || unsafe { open.methods.xTruncate.unwrap()(file, size) };
    open.disk.db_truncate(real).unwrap_or_else(|error| code(&error, ffi::SQLITE_IOERR_TRUNCATE))
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, _flags: c_int) -> c_int {
    let open = known(file);
    match open.disk.db_sync(&open.path, open.names) {
        Ok(()) => ffi::SQLITE_OK,
        Err(_) => ffi::SQLITE_IOERR_FSYNC,
    }
}
