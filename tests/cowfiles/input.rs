//! Images as fuzz inputs and corpus files: small, and every change of a byte is one of the image.
//!
//! ```text
//! byte 0      bit 0: the product's sizes, else small ones; bit 1: leave the checksums as they are
//! bytes 1-4   slots that the image says it has
//! then        pages: slot (4), length (2), so many bytes; the rest of the page is zeros
//! ```

use cowroot::engine::format::Shape;

use super::image::{Image, SMALL};
use super::opening;
use super::repair::repair;

/// Pages that an input may have.
const MOST_PAGES: usize = 400;

pub(crate) fn encode(image: &Image, raw: bool) -> Vec<u8> {
    let product = image.shape == Shape::PRODUCT;
    let mut bytes = vec![u8::from(product) | u8::from(raw) << 1];
    bytes.extend(image.slots.to_le_bytes());
    for (slot, page) in &image.pages {
        let len = page
            .iter()
            .rposition(|&byte| byte != 0)
            .map_or(0, |at| at + 1);
        if len > 0 {
            bytes.extend(slot.to_le_bytes());
            bytes.extend(u16::try_from(len).unwrap().to_le_bytes());
            bytes.extend(&page[..len]);
        }
    }
    bytes
}

/// Any bytes are an image; what cannot be read ends it. And whether to leave its checksums alone.
pub(crate) fn decode(bytes: &[u8]) -> Option<(Image, bool)> {
    let (&first, rest) = bytes.split_first()?;
    let (slots, mut rest) = rest.split_first_chunk()?;
    let shape = match first & 1 {
        1 => Shape::PRODUCT,
        _ => SMALL,
    };
    let mut image = Image::new(shape, u32::from_le_bytes(*slots));
    while let Some((slot, behind)) = rest.split_first_chunk()
        && let Some((len, behind)) = behind.split_first_chunk()
        && image.pages.len() < MOST_PAGES
    {
        let len = usize::from(u16::from_le_bytes(*len)).min(behind.len());
        let (page, behind) = behind.split_at(len);
        let kept = len.min(shape.chunk_len());
        image.put(u32::from_le_bytes(*slot), 0, &page[..kept]);
        rest = behind;
    }
    Some((image, first & 2 != 0))
}

/// Open whatever the bytes say, and read it, in every way there is. It may fail; it may not panic.
pub(crate) fn run(bytes: &[u8]) -> bool {
    let Some((mut image, raw)) = decode(bytes) else {
        return false;
    };
    if !raw {
        repair(&mut image);
    }
    match opening::offline(&mut image) {
        Ok((found, _)) => {
            opening::online(&image, found, false);
            true
        }
        Err(_) => false,
    }
}
