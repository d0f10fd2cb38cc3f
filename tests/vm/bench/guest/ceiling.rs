//! What libublk alone can do: the simplest devices there are, with its own loop around the ring. They
//! live until their standard input ends.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use libublk::ctrl::{UblkCtrl, UblkCtrlBuilder};
use libublk::helpers::IoBuf;
use libublk::io::{BufDesc, BufDescList, UblkDev, UblkQueue};
use libublk::{UblkFlags, UblkIORes, sys};

/// As cowroot's.
const DEPTH: u16 = 64;
const BUFFER_BYTES: u32 = 128 << 10;

/// A device that does nothing.
pub(crate) fn null(bytes: u64) -> Result<()> {
    serve(bytes, |_, _| Ok(()))
}

/// A device that is a file.
pub(crate) fn file(path: &Path) -> Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = file.with_context(|| format!("opening '{}'", path.display()))?;
    let bytes = file.metadata()?.len();
    let file = Arc::new(file);
    serve(bytes, move |iod, buffer| transfer(&file, iod, buffer))
}

fn transfer(file: &File, iod: &sys::ublksrv_io_desc, buffer: &mut [u8]) -> std::io::Result<()> {
    let offset = iod.start_sector * 512;
    let len = usize::try_from(u64::from(iod.nr_sectors) * 512).unwrap_or_default();
    let buffer = buffer.get_mut(..len).unwrap_or_default();
    match iod.op_flags & 0xff {
        sys::UBLK_IO_OP_READ => file.read_exact_at(buffer, offset),
        sys::UBLK_IO_OP_WRITE => file.write_all_at(buffer, offset),
        _ => Ok(()),
    }
}

fn serve<F>(bytes: u64, transfer: F) -> Result<()>
where
    F: Fn(&sys::ublksrv_io_desc, &mut [u8]) -> std::io::Result<()> + Send + Sync + Clone + 'static,
{
    let ctrl = UblkCtrlBuilder::default()
        .name("bench")
        .nr_queues(1)
        .depth(DEPTH)
        .io_buf_bytes(BUFFER_BYTES)
        .ctrl_flags(u64::from(sys::UBLK_F_CMD_IOCTL_ENCODE))
        .dev_flags(UblkFlags::UBLK_DEV_F_ADD_DEV | UblkFlags::UBLK_DEV_F_DEL_DEV_ASYNC)
        .build()
        .map_err(|error| anyhow::anyhow!("adding a device: {error}"))?;
    let initialize = move |dev: &mut UblkDev| {
        dev.set_default_params(bytes);
        Ok(())
    };
    let queue = move |number: u16, dev: &UblkDev| {
        if let Err(error) = serve_queue(number, dev, &transfer) {
            eprintln!("bench: queue: {error}");
        }
    };
    let started = |ctrl: &UblkCtrl| {
        println!("/dev/ublkb{}", ctrl.dev_info().dev_id);
        let _ = std::io::stdout().flush();
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = ctrl.kill_dev();
    };
    ctrl.run_target(initialize, queue, started)
        .map_err(|error| anyhow::anyhow!("serving: {error}"))?;
    Ok(())
}

fn serve_queue(
    number: u16,
    dev: &UblkDev,
    transfer: &impl Fn(&sys::ublksrv_io_desc, &mut [u8]) -> std::io::Result<()>,
) -> Result<(), libublk::UblkError> {
    let mut buffers: Vec<IoBuf<u8>> = dev.alloc_queue_io_bufs();
    UblkQueue::new(number, dev)?
        .submit_fetch_commands_unified(BufDescList::Slices(Some(&buffers)))?
        .wait_and_handle_io(move |queue, tag, _| {
            let iod = queue.get_iod(tag);
            let Some(buffer) = buffers.get_mut(usize::from(tag)) else {
                return;
            };
            let bytes = i32::try_from(iod.nr_sectors * 512).unwrap_or(i32::MAX);
            let result = transfer(iod, buffer.as_mut_slice()).map_or(-5, |()| bytes);
            let done = UblkIORes::Result(result);
            if let Err(error) =
                queue.complete_io_cmd_unified(tag, BufDesc::Slice(buffer.as_slice()), Ok(done))
            {
                eprintln!("bench: completing: {error}");
            }
        });
    Ok(())
}
