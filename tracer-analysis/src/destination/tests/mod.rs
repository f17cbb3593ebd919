mod fold;
mod histogram;
mod idle;
mod timeline;
