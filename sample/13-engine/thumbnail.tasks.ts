import { Injectable, Logger } from '@nestjs/common';
import { BackgroundTask } from 'nestjs-background-tasks';

@Injectable()
export class ThumbnailTasks {
  private readonly logger = new Logger(ThumbnailTasks.name);

  @BackgroundTask('thumbnail', { queue: 'thumbnails' })
  makeThumbnail(file: string): void {
    this.logger.log(`Made a thumbnail of ${file}`);
  }
}
